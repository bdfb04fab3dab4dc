// Mutants breaks the gateway's guards one at a time, in a copy of the
// repository, and demands that the test named for each goes red. A mutant that
// lives says that a test is too weak or a guard is not needed. It must never
// change the working tree. For `make mutants`.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	only := flag.String("only", "", "run the mutants of these rows (PG-15) or kinds of rows (PG), or of these names, separated by commas")
	list := flag.Bool("list", false, "list the mutants and check that they apply")
	jobs := flag.Int("jobs", 2, "how many run at a time, 1 or 2")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, *only, *list, min(max(*jobs, 1), 2))
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	if err != nil || !ok {
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, list bool, jobs int) (ok bool, err error) {
	root, err := goOutput(ctx, "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return false, err
	}
	all, err := tables(filepath.Join(root, "scripts", "mutants"))
	if err != nil {
		return false, err
	}
	if only != "" {
		wanted := strings.Split(only, ",")
		about := func(row string) bool {
			return slices.ContainsFunc(wanted, func(w string) bool { return row == w || strings.HasPrefix(row, w+"-") })
		}
		all = slices.DeleteFunc(all, func(m *mutant) bool { return !slices.Contains(wanted, m.name) && !slices.ContainsFunc(m.rows, about) })
	}
	if len(all) == 0 {
		return false, errors.New("no such mutant or row")
	}
	var stale []error
	for _, m := range all {
		if _, err := m.mutated(root); err != nil {
			stale = append(stale, fmt.Errorf("mutant %s %w", m.name, err))
		}
		if list {
			fmt.Printf("%-14s %-34s %s %s\n", strings.Join(m.rows, " "), m.name, m.pkg, m.test)
		}
	}
	if len(stale) > 0 || list {
		return len(stale) == 0, errors.Join(stale...)
	}
	began := time.Now()
	dir, err := os.MkdirTemp("", "gbmut")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	workers := make([]*worker, jobs)
	for i := range workers {
		if workers[i], err = newWorker(ctx, root, filepath.Join(dir, strconv.Itoa(i))); err != nil {
			return false, err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the test database runs as another user
		return false, err
	}
	if err := baseline(ctx, workers, all); err != nil {
		return false, err
	}
	lived := pursue(ctx, workers, all)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	fmt.Printf("%d mutants, %d caught, %d not, %v\n", len(all), len(all)-len(lived), len(lived), time.Since(began).Round(time.Second))
	for _, name := range lived {
		fmt.Println("  " + name)
	}
	return len(lived) == 0, nil
}

// tables reads every table of mutants in a directory. Names are unique in all of them.
func tables(dir string) ([]*mutant, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []*mutant
	names := make(map[string]bool)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		list, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		for _, m := range list {
			if names[m.name] {
				return nil, fmt.Errorf("%s: there are two mutants %s", filepath.Base(name), m.name)
			}
			names[m.name] = true
		}
		all = append(all, list...)
	}
	return all, nil
}

// mutated returns the texts of the files that the mutant changes.
func (m *mutant) mutated(root string) (map[string]string, error) {
	texts := make(map[string]string)
	for _, e := range m.edits {
		text, ok := texts[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		text, err := e.apply(text)
		if err != nil {
			return nil, err
		}
		texts[e.file] = text
	}
	return texts, nil
}

// each runs f for every item, one at a time on each worker.
func each[T any](workers []*worker, items []T, f func(*worker, T)) {
	next := make(chan T)
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			for item := range next {
				f(w, item)
			}
		})
	}
	for _, item := range items {
		next <- item
	}
	close(next)
	wg.Wait()
}

// baseline runs every test once as it is: what is red already proves nothing.
func baseline(ctx context.Context, workers []*worker, all []*mutant) error {
	tests := make(map[string][]string)
	var pkgs []string
	for _, m := range all {
		if tests[m.pkg] == nil {
			pkgs = append(pkgs, m.pkg)
		}
		if !slices.Contains(tests[m.pkg], m.top()) {
			tests[m.pkg] = append(tests[m.pkg], m.top())
		}
	}
	var mu sync.Mutex
	var errs []error
	each(workers, pkgs, func(w *worker, pkg string) {
		r, err := w.test(ctx, pkg, "^("+strings.Join(tests[pkg], "|")+")$", 10*time.Minute)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			errs = append(errs, err)
			return
		case !r.passed:
			errs = append(errs, fmt.Errorf("%s is red without a mutant: %s\n%s", pkg, strings.Join(r.failed, " "), r.tail()))
		}
		for _, name := range tests[pkg] {
			if !r.ran[name] {
				errs = append(errs, fmt.Errorf("%s: no test %s", pkg, name))
			}
		}
		fmt.Printf("green without a mutant: %s, %d tests, %v\n", pkg, len(tests[pkg]), r.took.Round(100*time.Millisecond))
	})
	return errors.Join(errs...)
}

// pursue runs the mutants and returns the names of those that were not caught.
func pursue(ctx context.Context, workers []*worker, all []*mutant) (lived []string) {
	var mu sync.Mutex
	each(workers, all, func(w *worker, m *mutant) {
		if ctx.Err() != nil {
			return
		}
		r, err := w.try(ctx, m)
		word, why := "caught", ""
		switch {
		case err != nil:
			word, why = "FAULTY", err.Error()
		case r.built && !r.ran[m.top()]:
			word, why = "FAULTY", "the test did not run\n"+r.tail()
		case !r.built:
			word, why = "FAULTY", "it does not build\n"+r.tail()
		case r.passed:
			word, why = "LIVED", "the test stays green"
		case len(r.failed) == 0 && !r.panicked:
			word, why = "FAULTY", "no test failed\n"+r.tail()
		}
		mu.Lock()
		defer mu.Unlock()
		if word != "caught" {
			lived = append(lived, m.name)
		}
		took := time.Duration(0)
		if r != nil {
			took = r.took
		}
		fmt.Printf("%-7s %-14s %-34s %s %.1fs %s\n", word, strings.Join(m.rows, " "), m.name, m.test, took.Seconds(), why)
	})
	slices.Sort(lived)
	return lived
}

// worker is one copy of the repository. Used by one goroutine.
type worker struct {
	dir string // the copy
	tmp string // for the tests' own files
}

func newWorker(ctx context.Context, root, dir string) (*worker, error) {
	w := &worker{dir: filepath.Join(dir, "repo"), tmp: filepath.Join(dir, "tmp")}
	if err := os.MkdirAll(w.tmp, 0o755); err != nil { //nolint:gosec // the test database runs as another user
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	names, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if err := copyFile(filepath.Join(root, name), filepath.Join(w.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return w, nil
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // a copy of sources
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

// try puts the mutant in, runs its test, and takes it out again.
func (w *worker) try(ctx context.Context, m *mutant) (r *result, failure error) {
	texts, err := m.mutated(w.dir)
	if err != nil {
		return nil, err
	}
	for name, text := range texts {
		path := filepath.Join(w.dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
		defer func() { failure = errors.Join(failure, os.WriteFile(path, whole, 0o600)) }()
	}
	return w.test(ctx, m.pkg, m.pattern(), 100*time.Second)
}

// result is what one run of `go test` said.
type result struct {
	built, passed, panicked bool
	ran                     map[string]bool
	failed                  []string
	output                  []string
	took                    time.Duration
}

func (r *result) tail() string {
	return strings.Join(r.output[max(0, len(r.output)-15):], "")
}

func (w *worker) test(ctx context.Context, pkg, pattern string, limit time.Duration) (*result, error) {
	began := time.Now()
	ctx, stop := context.WithTimeout(ctx, limit+2*time.Minute) // the build takes its time too
	defer stop()
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-trimpath", "-vet=off", "-count=1", "-timeout", limit.String(), "-run", pattern, "./"+pkg)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "TMPDIR="+w.tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	runErr := cmd.Run()
	w.sweep()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", pkg, context.Cause(ctx))
	}
	r := &result{built: true, passed: runErr == nil, ran: make(map[string]bool), took: time.Since(began)}
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output, FailedBuild string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			r.output = append(r.output, lines.Text()+"\n")
			continue
		}
		switch e.Action {
		case "run":
			r.ran[e.Test] = true
		case "fail":
			if e.Test != "" {
				r.failed = append(r.failed, e.Test)
			}
			r.built = r.built && e.FailedBuild == ""
		case "build-fail":
			r.built = false
		case "output", "build-output":
			r.output = append(r.output, e.Output)
			r.panicked = r.panicked || strings.HasPrefix(e.Output, "panic: ")
		}
	}
	return r, lines.Err()
}

// sweep ends the database servers that a test which panicked left behind, by
// the process id that each wrote down, and removes the tests' files.
func (w *worker) sweep() {
	found, _ := filepath.Glob(filepath.Join(w.tmp, "*", "data", "postmaster.pid"))
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		line, _, _ := strings.Cut(string(text), "\n")
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
		}
	}
	left, _ := filepath.Glob(filepath.Join(w.tmp, "*"))
	for _, name := range left {
		_ = os.RemoveAll(name)
	}
}

func goOutput(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
