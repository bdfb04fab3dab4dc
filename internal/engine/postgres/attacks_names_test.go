package postgres

import (
	"strings"
	"testing"
)

// TestPG26NamesThatAreOneAtTheTarget: PostgreSQL tells names of statements and portals
// apart by their first 63 bytes. Names that agree there would make the record name
// a text that did not run; longer ones are refused in their place.
func TestPG26NamesThatAreOneAtTheTarget(t *testing.T) {
	t.Parallel()
	h := start(t)
	table(t, "pg26", "v text")
	stem := strings.Repeat("a", 63)
	x, y := stem+"X", stem+"Y"
	const harmless, evil = "INSERT INTO pg26 VALUES ('harmless')", "INSERT INTO pg26 VALUES ('evil')"
	steps := map[string][][]byte{
		"statements": {
			parse(x, harmless), syncFrame, frame('C', "S"+y+"\x00"), syncFrame, parse(y, evil), syncFrame,
			bind("", x, 0, 0), execute("", 0), syncFrame, bind("", stem, 0, 0), execute("", 0), syncFrame,
		},
		"portals": {
			query("BEGIN"), parse("h", harmless), parse("e", evil), syncFrame, bind(x, "h", 0, 0), syncFrame,
			query("ROLLBACK; BEGIN"), frame('C', "P"+y+"\x00"), syncFrame, query("ROLLBACK; BEGIN"), bind(y, "e", 0, 0), syncFrame,
			query("ROLLBACK; BEGIN"), execute(x, 0), syncFrame, query("COMMIT"),
		},
		"one group":   {parse(x, evil), bind("", x, 0, 0), describe('P', ""), execute("", 0), syncFrame},
		"one portal":  {parse("", evil), bind(x, "", 0, 0), describe('P', x), execute(x, 0), syncFrame},
		"described":   {describe('S', x), syncFrame, describe('P', x), syncFrame},
		"mixed names": {parse(x, evil), bind("", "", 0, 0), execute("", 0), syncFrame},
		"no sync": {
			parse(x, harmless), frame('C', "S"+y+"\x00"), parse(y, evil), bind("", x, 0, 0), execute("", 0), syncFrame,
		},
	}
	for name, list := range steps {
		for _, pipelined := range []bool{false, true} {
			c := dialRaw(t, h.addr, "default", "agents", "orders")
			answers := ""
			var batch []byte
			ends := 0
			for _, m := range list {
				batch = append(batch, m...)
				if m[0] != 'S' && m[0] != 'Q' {
					continue
				}
				ends++
				if !pipelined {
					c.send(batch)
					answers += show(c.until('Z'))
					batch, ends = nil, 0
				}
			}
			if pipelined {
				c.send(batch)
				for range ends {
					answers += show(c.until('Z'))
				}
			}
			if !strings.Contains(answers, "08P01") || strings.Contains(answers, "INSERT 0") {
				t.Errorf("%s, in one write %v: %s", name, pipelined, answers)
			}
			c.send(query("SELECT 'still '||'usable'"))
			if got := show(c.until('Z')); !strings.Contains(got, "still usable") {
				t.Errorf("%s: then %s", name, got)
			}
			_ = c.conn.Close()
		}
	}
	if got := psql(t, "SELECT count(*) FROM pg26"); got != "0" {
		t.Errorf("%s statements ran", got)
	}
	refused := 0
	for _, x := range h.agents() {
		if strings.Contains(string(x.intent.Detail), stem+"X") || strings.Contains(string(x.intent.Detail), stem+"Y") {
			t.Errorf("recorded %s", x.intent.Detail)
		}
		if x.deny {
			refused++
		} else if x.intent.Op == "execute" && x.outcome.Status == "ok" {
			t.Errorf("ran: %q %s", x.intent.Text, x.intent.Detail)
		}
	}
	if refused < 20 {
		t.Errorf("%d refusals on record", refused)
	}
	// 63 bytes are a name like any other.
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(parse(stem, harmless), bind(stem, stem, 0, 0), execute(stem, 0), frame('C', "S"+stem+"\x00"), syncFrame)
	if got := show(c.until('Z')); !strings.Contains(got, "INSERT 0 1") {
		t.Errorf("63 bytes: %s", got)
	}
}
