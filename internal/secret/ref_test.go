package secret

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestParseRef(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want, err string }{
		{"relative file", "file:secrets/orders", "file:/etc/gatebook/secrets/orders", ""},
		{"absolute file", "file:/run/secrets/x", "file:/run/secrets/x", ""},
		{"dots are cleaned", "file:../x", "file:/etc/x", ""},
		{"colon in path", "file:a:b", "file:/etc/gatebook/a:b", ""},
		{"env", "env:DB_PASSWORD", "env:DB_PASSWORD", ""},
		{"empty", "", "", refForm},
		{"bare value", canary, "", refForm},
		{"bare value with colon", canary + ":x", "", refForm},
		{"unknown scheme", "vault:secret/x", "", refForm},
		{"upper case scheme", "FILE:x", "", refForm},
		{"no path", "file:", "", "PATH is missing"},
		{"zero byte", "file:a\x00b", "", "zero byte"},
		{"no name", "env:", "", "NAME must be"},
		{"name with equals sign", "env:A=B", "", "NAME must be"},
		{"name starting with a digit", "env:1A", "", "NAME must be"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := ParseRef(tt.in, "/etc/gatebook")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("err = %v, want one with %q", err, tt.err)
				}
				if leaks(err.Error()) {
					t.Errorf("the error repeats what may be a secret: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.String() != tt.want {
				t.Errorf("got %s, want %s", r, tt.want)
			}
		})
	}
}

func TestLoadFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		data string
		mode os.FileMode
		want string
		err  string
	}{
		{"plain", canary, 0o600, canary, ""},
		{"group may read", canary + "\n", 0o640, canary, ""},
		{"read-only", canary + "\r\n", 0o400, canary, ""},
		{"inner newline stays", "a\nb\n", 0o600, "a\nb", ""},
		{"spaces stay", " a ", 0o600, " a ", ""},
		{"world may read", canary, 0o644, "", "chmod 600 "},
		{"world may read only", canary, 0o604, "", "chmod 600 "},
		{"group may write", canary, 0o660, "", "chmod 600 "},
		{"empty", "", 0o600, "", "empty"},
		{"only a newline", "\n", 0o600, "", "empty"},
		{"at the limit", strings.Repeat("x", MaxSize), 0o600, strings.Repeat("x", MaxSize), ""},
		{"over the limit", strings.Repeat("x", MaxSize+1), 0o600, "", "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "s"), tt.data, tt.mode)
			r, err := ParseRef("file:s", dir)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Load()
			check(t, got, err, tt.want, tt.err)
		})
	}
}

func check(t *testing.T, got String, err error, want, wantErr string) {
	t.Helper()
	if wantErr != "" {
		if err == nil || !strings.Contains(err.Error(), wantErr) {
			t.Fatalf("err = %v, want one with %q", err, wantErr)
		}
		if leaks(err.Error()) {
			t.Errorf("the error shows the value: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got.Reveal() != want {
		t.Errorf("got %d bytes, want %d other bytes", len(got.Reveal()), len(want))
	}
}

func write(t *testing.T, path, data string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // WriteFile's mode is cut by the umask
		t.Fatal(err)
	}
}

func TestLoadReadsAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, err := ParseRef("file:s", dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"one", "two"} {
		write(t, filepath.Join(dir, "s"), v, 0o600)
		if got, err := r.Load(); err != nil || got.Reveal() != v {
			t.Errorf("got %v, want the new value", err)
		}
	}
}

func TestLoadRefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Skip("no named pipes here: ", err)
	}
	for name, want := range map[string]string{"pipe": "not a regular file", ".": "not a regular file", "absent": "no such file"} {
		r, err := ParseRef("file:"+name, dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Load()
		check(t, got, err, "", want)
	}
	got, err := Ref{}.Load()
	check(t, got, err, "", refForm)
}

func TestLoadEnv(t *testing.T) { // not parallel: the environment is shared
	t.Setenv("GATEBOOK_TEST_SECRET", canary+"\n")
	t.Setenv("GATEBOOK_TEST_EMPTY", "")
	t.Setenv("GATEBOOK_TEST_LARGE", strings.Repeat("x", MaxSize+1))
	for name, want := range map[string][2]string{
		"GATEBOOK_TEST_SECRET": {canary, ""}, "GATEBOOK_TEST_EMPTY": {"", "empty"},
		"GATEBOOK_TEST_UNSET": {"", "not set"}, "GATEBOOK_TEST_LARGE": {"", "larger than"},
	} {
		r, err := ParseRef("env:"+name, "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Load()
		check(t, got, err, want[0], want[1])
	}
}

func TestPublicFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ca.pem"), "certificate", 0o644)
	write(t, filepath.Join(dir, "empty"), "", 0o644)
	f, err := ParseFile("file:ca.pem", dir)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := f.Load(); err != nil || string(b) != "certificate" {
		t.Errorf("got %q, %v", b, err)
	}
	if e, _ := ParseFile("file:empty", dir); !loadFails(e, "empty") {
		t.Error("an empty file was accepted")
	}
	if !loadFails(File{}, `want "file:PATH"`) {
		t.Error("the zero File was accepted")
	}
	for _, bad := range []string{"ca.pem", "env:CA", "file:"} {
		if _, err := ParseFile(bad, dir); err == nil {
			t.Errorf("ParseFile(%q) accepted", bad)
		}
	}
}

func loadFails(f File, want string) bool {
	_, err := f.Load()
	return err != nil && strings.Contains(err.Error(), want)
}
