package journal_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

// model drives a journal against a list of payloads.
type model struct {
	tb   testing.TB
	disk *crashfs.FS
	opts journal.Options
	log  *journal.Log
	want [][]byte // all payloads given, in order
	safe int      // of them promised
}

func (m *model) append(t *rapid.T) {
	p := rapid.SliceOfN(rapid.Byte(), 0, 700).Draw(t, "payload")
	k := add(m.tb, m.log, p)
	if int(k.Seq()) != len(m.want) {
		t.Fatalf("got number %d, want %d", k.Seq(), len(m.want))
	}
	m.want = append(m.want, p)
	if rapid.Bool().Draw(t, "wait") {
		if err := k.Wait(m.tb.Context()); err != nil {
			t.Fatal(err)
		}
		m.safe = len(m.want)
	}
}

func (m *model) crash(t *rapid.T) {
	m.safe = max(m.safe, int(m.log.Synced()))
	after := m.disk.Crash(rapid.Uint64().Draw(t, "seed"))
	closeLog(m.tb, m.log)
	m.disk = after
	m.reopen(t)
}

func (m *model) restart(t *rapid.T) {
	closeLog(m.tb, m.log)
	m.safe = len(m.want)
	m.reopen(t)
}

func (m *model) reopen(t *rapid.T) {
	m.opts.SegmentBytes = int64(rapid.IntRange(200, 4000).Draw(t, "segment"))
	l, rec := open(m.tb, m.disk, m.opts)
	if int(rec.Entries) < m.safe || int(rec.Entries) > len(m.want) {
		t.Fatalf("recovered %d of %d, %d were safe", rec.Entries, len(m.want), m.safe)
	}
	m.log, m.want, m.safe = l, m.want[:rec.Entries], int(rec.Entries)
}

func (m *model) read(t *rapid.T) {
	from := rapid.IntRange(0, len(m.want)).Draw(t, "from")
	got := all(m.tb, m.log.Read(journal.Seq(from)))
	if from+len(got) < m.safe && from <= m.safe {
		t.Fatalf("read %d from %d, %d are safe", len(got), from, m.safe)
	}
	for i, p := range got {
		if string(p) != string(m.want[from+i]) {
			t.Fatalf("payload %d is %x, want %x", from+i, p, m.want[from+i])
		}
	}
}

func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{tb: t, disk: crashfs.New(nil, 1), opts: small()}
		create(t, m.disk)
		m.reopen(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append, "crash": m.crash, "restart": m.restart, "read": m.read,
		})
		closeLog(t, m.log)
		got := readBack(t, m.disk)
		if len(got) != len(m.want) {
			rt.Fatalf("%d payloads on disk, want %d", len(got), len(m.want))
		}
	})
}
