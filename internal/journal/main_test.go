package journal_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

const childEnv = "GATEBOOK_JOURNAL_TEST_CHILD"

// TestMain also is the process that TestKilledProcess kills.
func TestMain(m *testing.M) {
	if d := os.Getenv(childEnv); d != "" {
		fmt.Fprintln(os.Stderr, childMain(d))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// childMain appends for ever and says after each wait how many are safe.
func childMain(d string) error {
	seed, err := strconv.ParseUint(os.Getenv(childEnv+"_SEED"), 10, 64)
	if err != nil {
		return err
	}
	l, rec, err := journal.Open(crashfs.New(vfs.OS(), seed), d, small())
	if err != nil {
		return err
	}
	fmt.Println(rec.Entries)
	for i := 0; ; i++ {
		k, err := l.Append(journal.Ordinary, func(dst []byte, seq journal.Seq) []byte {
			return append(dst, payload(seq)...)
		})
		if err != nil {
			return err
		}
		if i%4 == 3 {
			continue
		}
		if err := k.Wait(context.Background()); err != nil {
			return err
		}
		fmt.Println(k.Seq() + 1)
	}
}

// TestKilledProcess kills a process that writes through crashfs over real
// files, so that what it had not synced is really gone.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	d := t.TempDir() + "/j"
	if err := journal.Create(vfs.OS(), d); err != nil {
		t.Fatal(err)
	}
	safe := 0
	for run := range 12 {
		safe = max(safe, runAndKill(t, d, run, 1+run*run*3))
		s, err := journal.OpenReadOnly(vfs.OS(), d)
		if err != nil {
			t.Fatalf("run %d: %v", run, err)
		}
		if int(s.Entries()) < safe {
			t.Fatalf("run %d: %d entries, %d were safe", run, s.Entries(), safe)
		}
		checkAll(t, all(t, s.Read(0)), int(s.Entries()))
	}
}

// runAndKill kills the child after it has said n times how many are safe.
func runAndKill(t *testing.T, d string, seed, n int) (safe int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+d, fmt.Sprintf("%s_SEED=%d", childEnv, seed))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		if safe, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if i == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("child ended by itself: %v %s", err, &stderr)
	}
	return safe
}
