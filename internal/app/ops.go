package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ops serves health and metrics.
type ops struct {
	ln  net.Listener
	srv *http.Server
}

// newOps binds the address, nil if none is configured.
func newOps(a *App) (*ops, error) {
	if a.cfg.Ops.Address == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", a.cfg.Ops.Address)
	if err != nil {
		return nil, fmt.Errorf("ops: %w", err)
	}
	m := http.NewServeMux()
	m.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return &ops{ln: ln, srv: &http.Server{
		Handler: m, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}}, nil
}

// OpsAddress returns the address of health and metrics, "" if there is none.
func (a *App) OpsAddress() string {
	if a.ops == nil {
		return ""
	}
	return a.ops.ln.Addr().String()
}

func (o *ops) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = o.srv.Close() })
	defer stop()
	if err := o.srv.Serve(o.ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ready returns why the gate admits nobody, or nil.
func (a *App) ready() error {
	if err := a.gate.Err(); err != nil {
		return fmt.Errorf("the gate is closed: %w", err)
	}
	if a.book.Ledger.Stats().Full {
		return errors.New("the gate is closed: low disk space")
	}
	return nil
}

// collector reads the gateway's counters for Prometheus. Labels have fixed
// sets of values; no names of people, targets' objects or statements.
type collector struct{ a *App }

var descs = struct {
	ready, sessions, running, exchanges, refused, conns, accepted, rejected, entries, syncs, syncTime, bytes, free, queued, segments, lag, alerts, deliveries *prometheus.Desc
}{
	ready:     desc("gatebook_ready", "1 if the gate admits sessions."),
	sessions:  desc("gatebook_sessions_open", "Open sessions."),
	running:   desc("gatebook_exchanges_open", "Exchanges that have no outcome yet."),
	exchanges: desc("gatebook_exchanges_total", "Exchanges begun."),
	refused:   desc("gatebook_logins_refused_total", "Log-ins refused."),
	conns:     desc("gatebook_connections_open", "Open connections of agents."),
	accepted:  desc("gatebook_connections_accepted_total", "Connections accepted."),
	rejected:  desc("gatebook_connections_rejected_total", "Connections closed because too many were open."),
	entries:   desc("gatebook_journal_entries", "Durable entries in the book."),
	syncs:     desc("gatebook_journal_syncs_total", "Syncs of the journal."),
	syncTime:  desc("gatebook_journal_sync_seconds_total", "Time spent in syncs."),
	bytes:     desc("gatebook_journal_bytes", "Bytes in the journal's segments."),
	free:      desc("gatebook_disk_free_bytes", "Free bytes on the journal's file system."),
	queued:    desc("gatebook_journal_queued_bytes", "Bytes waiting to be written."),
	segments:  desc("gatebook_journal_segments", "Segments of the journal."),
	lag:       desc("gatebook_index_lag_entries", "Entries that the query tables do not have yet."),
	alerts:    prometheus.NewDesc("gatebook_alerts_total", "Alerts, by what they are about.", []string{"what"}, nil),
	deliveries: prometheus.NewDesc("gatebook_webhook_deliveries_total", "Attempts to deliver messages to webhooks, by their result.",
		[]string{"hook", "result"}, nil),
}

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	count := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	ready := 1.0
	if c.a.ready() != nil {
		ready = 0
	}
	t, f, j := c.a.gate.Counters(), c.a.server.Figures(), c.a.book.Ledger.Stats()
	gauge(descs.ready, ready)
	gauge(descs.sessions, float64(t.OpenSessions))
	gauge(descs.running, float64(t.OpenExchanges))
	count(descs.exchanges, float64(t.Exchanges))
	count(descs.refused, float64(t.Refused))
	gauge(descs.conns, float64(f.Open))
	count(descs.accepted, float64(f.Accepted))
	count(descs.rejected, float64(f.Rejected))
	gauge(descs.entries, float64(c.a.book.Ledger.Entries()))
	count(descs.syncs, float64(j.Syncs))
	count(descs.syncTime, j.SyncTime.Seconds())
	gauge(descs.bytes, float64(j.Bytes))
	gauge(descs.free, float64(j.Free))
	gauge(descs.queued, float64(j.Queued))
	gauge(descs.segments, float64(j.Segments))
	gauge(descs.lag, float64(c.a.book.index.lag()))
	for what, n := range c.a.herald.counts() {
		ch <- prometheus.MustNewConstMetric(descs.alerts, prometheus.CounterValue, float64(n), what)
	}
	for r, n := range c.a.herald.sender.Results() {
		ch <- prometheus.MustNewConstMetric(descs.deliveries, prometheus.CounterValue, float64(n), r.Hook, r.Result)
	}
}
