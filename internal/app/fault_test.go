package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

// TestGateClosesOnFaults lets a running gateway's disk fail in the midst of
// work: what cannot be recorded is neither done nor answered, nobody is let in, and the
// process ends, so that a start can recover. Nothing that was answered is lost.
func TestGateClosesOnFaults(t *testing.T) {
	journal := func(name string) bool { return strings.Contains(name, "/journal/") }
	file := func(base string) func(string) bool {
		return func(name string) bool { return strings.HasSuffix(name, "/"+base) }
	}
	if _, err := database.PSQL("postgres", "CREATE TABLE IF NOT EXISTS faults (id bigint PRIMARY KEY); GRANT ALL ON faults TO agent"); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		name    string
		op      faultfs.Op
		kind    faultfs.Kind
		file    func(string) bool
		journal bool
	}{
		{"sync of the journal", faultfs.OpSync, faultfs.EIO, journal, true},
		{"sync of the journal, done all the same", faultfs.OpSync, faultfs.DoneEIO, journal, true},
		{"write of the journal", faultfs.OpWriteAt, faultfs.EIO, journal, true},
		{"short write of the journal", faultfs.OpWriteAt, faultfs.Short, journal, true},
		{"no space in a write of the journal", faultfs.OpWriteAt, faultfs.NoSpace, journal, true},
		{"sync of the key store", faultfs.OpSync, faultfs.EIO, file("keys.store"), false},
		{"sync of a checkpoint", faultfs.OpSync, faultfs.EIO, file("checkpoints.jsonl"), false},
		{"write of a checkpoint", faultfs.OpWriteAt, faultfs.EIO, file("checkpoints.jsonl"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, "")
			l := &load{table: "faults", answered: make(map[int64]answer), kinds: make(map[string]int), next: int64(i) * 1000}
			l.begin(t, p)
			disk := faultfs.New(vfs.OS())
			a, err := New(t.Context(), p.config(t), disk, "test", slog.New(slog.NewTextHandler(io.Discard, nil)))
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- a.Run(context.Background(), context.Background()) }()
			conn, err := connect(t.Context(), a.Addresses()[0].Address, l.token)
			if err != nil {
				t.Fatal(err)
			}
			insert := func(id int64) error {
				tag, err := conn.PgConn().Exec(t.Context(), fmt.Sprintf("INSERT INTO faults VALUES (%d) /* %d */", id, id)).ReadAll()
				if err == nil {
					l.got("insert", id, answer{"ok", tag[0].CommandTag.String()})
				}
				return err
			}
			first, second := l.id(), l.id()
			if err := insert(first); err != nil {
				t.Fatal(err)
			}
			disk.FailOp(c.op, c.kind, c.file)
			err = insert(second)
			if c.journal && err == nil {
				t.Error("a request was answered that could not be recorded")
			}
			if other, err := connect(t.Context(), a.Addresses()[0].Address, l.token); err == nil {
				if c.journal || c.file("/keys.store") {
					t.Error("a log-in was let in that could not be recorded")
				}
				_ = other.Close(context.Background())
			}
			select {
			case err := <-ended:
				if err == nil {
					t.Error("the gateway ended as if nothing had happened")
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the gateway goes on")
			}
			if disk.Fired() == 0 {
				t.Error("nothing failed")
			}
			_ = conn.Close(context.Background())
			rows, err := database.PSQL("postgres", fmt.Sprintf("SELECT id FROM faults WHERE id = %d", second))
			if err != nil {
				t.Fatal(err)
			}
			if c.journal && c.kind != faultfs.DoneEIO && strings.TrimSpace(rows) != "" {
				t.Error("a request was done whose intent could not be recorded")
			}
			l.compare(t, p, false)
			if !t.Failed() {
				l.recovered(t, p)
			}
		})
	}
}
