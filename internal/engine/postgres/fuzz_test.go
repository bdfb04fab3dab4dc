package postgres

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
)

func FuzzOptions(f *testing.F) {
	f.Add(`-c datestyle=iso --timezone=UTC -cgeqo=off a\ b`)
	f.Fuzz(func(t *testing.T, text string) {
		given := map[string]string{}
		if parseOptions(text, given) == nil {
			for name := range given {
				if !startupParams[name] {
					t.Errorf("%q let %q through", text, name)
				}
			}
		}
	})
}

func FuzzBearer(f *testing.F) {
	f.Add([]byte("n,,\x01auth=Bearer abc\x01\x01"))
	f.Add([]byte("n,,\x01auth=\x01\x01"))
	f.Fuzz(func(t *testing.T, message []byte) {
		token, err := parseBearer(message)
		if err == nil && (bytes.ContainsAny([]byte(token), " \x00\x01,\n") || !bytes.Contains(message, []byte(token))) {
			t.Errorf("%q gave token %q", message, token)
		}
	})
}

// FuzzAnswerless feeds random frames to the engine from either side. It must
// neither panic nor hang, and every exchange must get an outcome.
func FuzzAnswerless(f *testing.F) {
	extended := bytes.Join([][]byte{parse("s", "SELECT 1"), bind("p", "s", 0, 0), describe('P', "p"), execute("p", 0), syncFrame}, nil)
	f.Add(extended, append(append(frame('1', ""), frame('2', "")...), readyFrame...))
	f.Add(append(query("SELECT 1"), query("COPY t FROM STDIN")...), append(oneRow("x"), frame('G', "\x00\x00\x00")...))
	f.Add(append(query("COPY t FROM STDIN"), append(copyData("x"), copyFail("x")...)...), frame('G', "\x00\x00\x00"))
	f.Add(append(closing('S', "s"), 'F', 0, 0, 0, 4), frame('E', "SFATAL\x00C57P01\x00\x00"))
	f.Fuzz(func(t *testing.T, agent, target []byte) { feed(t, agent, target) })
}

func feed(t *testing.T, agent, target []byte) {
	fake := startFake(t, func(f *fakeConn) {
		if f.login() {
			_ = f.conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
			f.next()
			f.write(target)
			_ = f.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, _ = io.Copy(io.Discard, f.conn)
		}
	})
	h := start(t, fake.target, func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) {
		l.Orphan, l.Stall, l.Message = 10*time.Millisecond, 100*time.Millisecond, 1<<20
	}, plaintext)
	c, err := loginRaw(h.addr, "default", "agents", "orders")
	if err != nil {
		return
	}
	_, _ = c.conn.Write(agent)
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, _ = io.Copy(io.Discard, c.conn)
	_ = c.conn.Close()
	h.closed()
	for _, x := range h.agents() {
		if x.outcome == nil {
			t.Errorf("exchange %d has no outcome; sent %q, answered %q", x.n, agent, target)
		}
	}
}

// TestRandomFrames is FuzzAnswerless with seeded frames that are mostly well-formed.
func TestRandomFrames(t *testing.T) {
	t.Parallel()
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	answers := [][]byte{
		frame('1', ""), frame('2', ""), frame('3', ""), frame('n', ""), frame('t', "\x00\x00"), description("a"), rowOf("x"),
		frame('C', "SELECT 1\x00"), frame('I', ""), frame('s', ""), frame('G', "\x00\x00\x00"), frame('H', "\x00\x00\x00"), frame('d', "x"),
		frame('c', ""), frame('E', "SERROR\x00C42601\x00Mx\x00\x00"), frame('N', "SNOTICE\x00\x00"), readyFrame, readyFrame,
		frame('A', "\x00\x00\x00\x01c\x00p\x00"), frame('S', "a\x00b\x00"), frame('V', "\xff\xff\xff\xff"), frame('?', "x"),
	}
	for i := range rounds {
		p := &pipeline{rng: rand.New(rand.NewPCG(77, uint64(i)))} //nolint:gosec // a test's sequence
		var target []byte
		for range p.rng.IntN(12) {
			target = append(target, answers[p.rng.IntN(len(answers))]...)
		}
		feed(t, p.round(), target)
	}
}
