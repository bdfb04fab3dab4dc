package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// sample is one measurement of one system.
type sample struct {
	count float64       // transactions, connections, bulk runs
	rate  float64       // per second: transactions, connections, bulk runs
	mean  time.Duration // of one of them, for one client
	cpu   time.Duration // of the proxy, for each
	late  time.Duration // of the gateway afterwards, until its query tables hold the sample, for each
	sync  float64       // syncs of the book, for each
}

// contest measures several systems side by side, round by round.
type contest struct {
	name    string // of the case without the systems
	clients int
	systems []*system
	run     func(*system) (sample, error)
	// ratios are the results that are asked for: the case's name, whose rate
	// is divided by whose.
	ratios []ratio
}

type ratio struct {
	name     string
	of, base string
}

func measure(w *world, o *options, t *table) error {
	var all, proxies []*system
	for _, s := range []*system{w.direct, w.bouncer, w.relay, w.always, w.release, w.every} {
		if o.systems.MatchString(s.name) {
			all = append(all, s)
			if s.pid != 0 {
				proxies = append(proxies, s)
			}
		}
	}
	var list []contest
	for _, mode := range []string{"simple", "extended", "prepared"} {
		for _, clients := range []int{1, 8, 64} {
			list = append(list, contest{
				name: "point-" + mode, clients: clients, systems: all,
				run: func(s *system) (sample, error) {
					return w.pgbench(s, o.period, "-S", "-M", mode, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(2, clients)))
				},
				ratios: []ratio{
					{"point-" + mode + "-always/pgbouncer", "gatebook-always", "pgbouncer"},
					{"point-" + mode + "-release/pgbouncer", "gatebook-release", "pgbouncer"},
					{"point-" + mode + "-interval/pgbouncer", "gatebook-interval", "pgbouncer"},
					{"point-" + mode + "-always/direct", "gatebook-always", "direct"},
					{"point-" + mode + "-relay/pgbouncer", "relay", "pgbouncer"},
				},
			})
		}
	}
	for _, b := range []struct{ name, sql string }{
		{"bulk", "SELECT * FROM pgbench_accounts LIMIT " + strconv.Itoa(o.bulk)},
		{"copy", "COPY (SELECT * FROM pgbench_accounts LIMIT " + strconv.Itoa(o.bulk) + ") TO STDOUT"},
		{"copy-in", ""},
	} {
		list = append(list, contest{
			name: b.name, clients: 1, systems: all,
			run: func(s *system) (sample, error) { return w.bulk(s, b.sql, o.bulk) },
			ratios: []ratio{
				{b.name + "/direct", "gatebook-always", "direct"},
				{b.name + "-interval/direct", "gatebook-interval", "direct"},
				{b.name + "/pgbouncer", "gatebook-always", "pgbouncer"},
			},
		})
	}
	list = append(list, w.maskedContests(o)...)
	list = append(list, contest{
		name: "connect", clients: 4, systems: all,
		run: func(s *system) (sample, error) {
			return w.pgbench(s, o.period, "-S", "-C", "-c", "4", "-j", "2")
		},
		ratios: []ratio{{"connect/pgbouncer", "gatebook-always", "pgbouncer"}, {"connect/direct", "gatebook-always", "direct"}},
	})
	ran := 0
	for _, c := range list {
		if !o.only.MatchString(c.name + "/" + strconv.Itoa(c.clients)) {
			continue
		}
		ran++
		if err := w.contest(&c, o, t); err != nil {
			return err
		}
	}
	if o.only.MatchString("idle/" + strconv.Itoa(o.idle)) {
		ran++
		for _, s := range proxies {
			bytes, err := w.idle(s, o.idle)
			if err != nil {
				return fmt.Errorf("idle memory of %s: %w", s.name, err)
			}
			t.addIdle(s.name, o.idle, bytes)
		}
	}
	if o.only.MatchString("hold/1") && slices.Contains(all, w.always) {
		ran++
		times, err := w.hold(w.always, 4*o.rounds)
		if err == nil {
			err = t.addHold(times)
		}
		if err != nil {
			return fmt.Errorf("hold: %w", err)
		}
	}
	if ran == 0 || len(all) == 0 {
		return fmt.Errorf("-only %s and -systems %s leave nothing to measure", o.only, o.systems)
	}
	return nil
}

// maskedContests are reads with a mask on one column, and with detectors on all texts, beside the same reads without.
func (w *world) maskedContests(o *options) (list []contest) {
	var systems []*system
	for _, s := range []*system{w.direct, w.always, w.masked, w.detect} {
		if o.systems.MatchString(s.name) {
			systems = append(systems, s)
		}
	}
	for _, b := range []struct{ name, table string }{{"masked-bulk", "people"}, {"texts-bulk", "texts"}} {
		list = append(list, contest{
			name: b.name, clients: 1, systems: systems,
			run: func(s *system) (sample, error) { return w.bulk(s, "SELECT * FROM "+b.table, o.bulk) },
			ratios: []ratio{
				{b.name + "-bare/direct", "gatebook-always", "direct"}, {b.name + "-column/direct", "gatebook-masked", "direct"}, {b.name + "-detectors/direct", "gatebook-detect", "direct"},
				{b.name + "-column/bare", "gatebook-masked", "gatebook-always"}, {b.name + "-detectors/bare", "gatebook-detect", "gatebook-always"},
			},
		})
	}
	script := filepath.Join(w.dir, "person.sql")
	text := fmt.Sprintf("\\set id random(1, %d)\nSELECT * FROM people WHERE id = :id;\n", o.bulk)
	for _, clients := range []int{1, 64} {
		list = append(list, contest{
			name: "masked-point", clients: clients, systems: systems,
			run: func(s *system) (sample, error) {
				if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
					return sample{}, err
				}
				return w.pgbench(s, o.period, "-n", "-f", script, "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(2, clients)))
			},
			ratios: []ratio{
				{"masked-point-column/bare", "gatebook-masked", "gatebook-always"}, {"masked-point-detectors/bare", "gatebook-detect", "gatebook-always"}, {"masked-point-column/direct", "gatebook-masked", "direct"},
			},
		})
	}
	return list
}

// contest runs the rounds. The order turns by one in each, so that nobody
// always runs after the same neighbour. A round in which other programs took
// too much of the machine does not count and is run again, for a while.
func (w *world) contest(c *contest, o *options, t *table) error {
	const tries = 6
	for round, left := 0, tries*o.rounds; round < o.rounds; left-- {
		before, err := readProcesses()
		if err != nil {
			return err
		}
		start := time.Now()
		probe, err := w.probe()
		if err != nil {
			return err
		}
		got := make(map[string]sample)
		for i := range c.systems {
			s := c.systems[(i+round)%len(c.systems)]
			synced, err := s.metric("gatebook_journal_syncs_total")
			if err != nil {
				return err
			}
			x, err := c.run(s)
			if err != nil {
				return fmt.Errorf("%s with %d clients, %s: %w", c.name, c.clients, s.name, err)
			}
			syncedAfter, err := s.metric("gatebook_journal_syncs_total")
			if err != nil {
				return err
			}
			x.sync = (syncedAfter - synced) / x.count
			if x.late, err = w.settle(s, x.count); err != nil {
				return fmt.Errorf("%s with %d clients, %s: %w", c.name, c.clients, s.name, err)
			}
			got[s.name] = x
		}
		after, err := readProcesses()
		if err != nil {
			return err
		}
		others := foreign(before, after, time.Since(start), descends(os.Getpid(), w.postmaster))
		counts := others <= o.foreign || left <= o.rounds-round
		fmt.Fprintf(os.Stderr, "%s/%d round %d of %d, other programs took %.0f%% of the machine%s\n",
			c.name, c.clients, round+1, o.rounds, 100*others, map[bool]string{false: ": again"}[counts])
		if counts {
			round++
			t.add(c, got, probe, others)
		}
	}
	return nil
}

var (
	tps       = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	processed = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)
	connected = regexp.MustCompile(`(?m)^initial connection time = ([0-9.]+) ms`)
)

// pgbench runs pgbench for a while. What it needs to connect counts only if
// connecting is what is measured (-C).
func (w *world) pgbench(s *system, period time.Duration, args ...string) (sample, error) {
	start := time.Now()
	stop := watch(s.pid)
	out, err := w.tool("pgbench", s, append(args, "-n", "-T", strconv.Itoa(int(period.Seconds())))...)
	used := stop()
	if err != nil {
		return sample{}, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	number := func(r *regexp.Regexp) (x float64) {
		if m := r.FindStringSubmatch(out); m != nil {
			x, err = strconv.ParseFloat(m[1], 64)
		}
		return x
	}
	rate, n, connecting := number(tps), number(processed), number(connected)
	if err != nil || rate == 0 || n == 0 || strings.Contains(out, "aborted") {
		return sample{}, fmt.Errorf("pgbench says: %s", out)
	}
	begin := start.Add(time.Duration(connecting * float64(time.Millisecond)))
	return sample{
		count: n, rate: rate, mean: time.Duration(float64(time.Second) / rate),
		cpu: time.Duration(float64(used.cpuFrom(begin)) / n),
	}, nil
}

// reading is a process' processor time at a moment.
type reading struct {
	at  time.Time
	cpu time.Duration
}

// readings are in the order of time.
type readings []reading

// cpuFrom returns what was used from a moment on.
func (r readings) cpuFrom(begin time.Time) time.Duration {
	for _, x := range r {
		if !x.at.Before(begin) {
			return r[len(r)-1].cpu - x.cpu
		}
	}
	return 0
}

// watch reads a process' processor time now and then until the returned function is called.
func watch(pid int) (stop func() readings) {
	done, result := make(chan struct{}), make(chan readings)
	go func() {
		var r readings
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		for {
			if used, err := cpu(pid); err == nil {
				r = append(r, reading{time.Now(), used})
			}
			select {
			case <-t.C:
			case <-done:
				result <- r
				return
			}
		}
	}()
	return func() readings { close(done); return <-result }
}

// bulk reads or copies many rows over one connection. An empty text copies into the table sink.
func (w *world) bulk(s *system, sql string, rows int) (sample, error) {
	conninfo, password, err := s.login()
	if err != nil {
		return sample{}, err
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	conn, err := pgconn.Connect(ctx, conninfo+" password="+password)
	if err != nil {
		return sample{}, err
	}
	defer func() { _ = conn.Close(ctx) }()
	before, err := cpu(s.pid)
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	n := int64(0)
	switch {
	case sql == "":
		var tag pgconn.CommandTag
		tag, err = conn.CopyFrom(ctx, &accounts{left: rows}, "COPY sink FROM STDIN")
		n = tag.RowsAffected()
	case strings.HasPrefix(sql, "COPY"):
		var tag pgconn.CommandTag
		tag, err = conn.CopyTo(ctx, io.Discard, sql)
		n = tag.RowsAffected()
	default:
		results := conn.Exec(ctx, sql)
		for results.NextResult() {
			for reader := results.ResultReader(); reader.NextRow(); {
				n++
			}
		}
		err = results.Close()
	}
	took := time.Since(start)
	if err == nil && n != int64(rows) {
		err = fmt.Errorf("%d rows, want %d", n, rows)
	}
	if err != nil {
		return sample{}, err
	}
	after, err := cpu(s.pid)
	if err != nil {
		return sample{}, err
	}
	if sql == "" {
		_, err = w.pg.PSQL(dbName, "TRUNCATE sink")
	}
	return sample{count: 1, rate: 1 / took.Seconds(), mean: took, cpu: after - before}, err
}

// accounts is a reader of rows like those of pgbench_accounts.
type accounts struct {
	left int
	rest []byte
}

func (a *accounts) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.left == 0 {
			return 0, io.EOF
		}
		n := min(a.left, 500)
		a.left -= n
		for i := range n {
			a.rest = fmt.Appendf(a.rest, "%d\t%d\t0\t%84s\n", a.left+i, i, "")
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// idle returns the bytes of memory (proportional resident set growth) that
// each of n sessions costs the proxy while nothing happens.
func (w *world) idle(s *system, n int) (each int64, err error) {
	before, err := resident(s.pid)
	if err != nil {
		return 0, err
	}
	conninfo, password, err := s.login()
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	var conns []*pgconn.PgConn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close(context.Background()))
		}
	}()
	for range n {
		c, err := pgconn.Connect(ctx, conninfo+" password="+password)
		if err != nil {
			return 0, fmt.Errorf("session %d: %w", len(conns)+1, err)
		}
		conns = append(conns, c)
		if _, err := c.Exec(ctx, "SELECT 1").ReadAll(); err != nil {
			return 0, err
		}
	}
	time.Sleep(15 * time.Second) // what was needed to log in may be given back
	after, err := resident(s.pid)
	if err != nil {
		return 0, err
	}
	return (after - before) / int64(n), nil
}

// cpu returns the processor time that a process has used; 0 for pid 0.
func cpu(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	p, err := readProcess(pid)
	return p.own, err
}

// settle waits until a gateway's query tables have caught up with its book, so
// that their work is not done on the next one's time, and returns the processor time that took.
func (w *world) settle(s *system, count float64) (each time.Duration, err error) {
	if s.metrics == "" {
		return 0, nil
	}
	before, err := cpu(s.pid)
	if err != nil {
		return 0, err
	}
	for range 600 {
		lag, err := s.metric("gatebook_index_lag_entries")
		if err != nil {
			return 0, err
		}
		if lag == 0 {
			after, err := cpu(s.pid)
			return time.Duration(float64(after-before) / count), err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return 0, errors.New("the query tables do not catch up")
}

// metric returns a reading of a gateway's metrics; 0 for other systems.
func (s *system) metric(name string) (float64, error) {
	if s.metrics == "" {
		return 0, nil
	}
	r, err := http.Get(s.metrics)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no %s at %s", name, s.metrics)
}

var vmRSS = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	m := vmRSS.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no VmRSS of %d", pid)
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kb << 10, err
}

// probe returns the median time of a write of 1 KiB with fdatasync into a
// preallocated file on the disk of the books.
func (w *world) probe() (time.Duration, error) {
	f, err := os.Create(filepath.Join(w.dir, "probe"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	const n = 200
	if err := unix.Fallocate(int(f.Fd()), 0, 0, n<<10); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	page := make([]byte, 1024)
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		if _, err := f.WriteAt(page, int64(i)<<10); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[n/2], nil
}
