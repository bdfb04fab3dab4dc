package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is one line of results.json. Ratio is the median over the rounds of
// the two systems' rates in the same round; Spread is half the distance
// between the quartiles, as a part of the median; Samples are the rounds' ratios.
type result struct {
	Case    string    `json:"case"`
	Clients int       `json:"clients"`
	Ratio   float64   `json:"ratio"`
	Spread  float64   `json:"spread"`
	Samples []float64 `json:"samples"`
}

// figure is one line of the table: a system in a case.
type figure struct {
	name, system string
	clients      int
	rates        []float64
	means, cpus  []float64 // microseconds
	over         []float64 // mean beyond the direct one's in the same round, microseconds
	perSync      []float64 // syncs of the book for each
	late         []float64 // processor time afterwards for each, microseconds
	beyond       []float64 // beyond that, two syncs of the round's probe, microseconds
}

type table struct {
	figures []*figure
	results []*result
	probes  []float64 // microseconds
	idle    []string
	others  float64 // greatest part of the machine that other programs took in a round
}

func newTable() *table { return &table{} }

func (t *table) figure(name, system string, clients int) *figure {
	for _, f := range t.figures {
		if f.name == name && f.system == system && f.clients == clients {
			return f
		}
	}
	f := &figure{name: name, system: system, clients: clients}
	t.figures = append(t.figures, f)
	return f
}

func (t *table) result(name string, clients int) *result {
	for _, r := range t.results {
		if r.Case == name && r.Clients == clients {
			return r
		}
	}
	r := &result{Case: name, Clients: clients}
	t.results = append(t.results, r)
	return r
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// add takes down one round.
func (t *table) add(c *contest, got map[string]sample, probe time.Duration, others float64) {
	t.others = max(t.others, others)
	t.probes = append(t.probes, us(probe))
	for _, s := range c.systems {
		x := got[s.name]
		f := t.figure(c.name, s.name, c.clients)
		f.rates = append(f.rates, x.rate)
		f.means = append(f.means, us(x.mean)*float64(c.clients))
		f.cpus = append(f.cpus, us(x.cpu))
		f.late = append(f.late, us(x.late))
		f.perSync = append(f.perSync, x.sync)
		over := (us(x.mean) - us(got["direct"].mean)) * float64(c.clients)
		f.over = append(f.over, over)
		f.beyond = append(f.beyond, over-2*us(probe))
	}
	for _, r := range c.ratios {
		if got[r.of].rate == 0 || got[r.base].rate == 0 {
			continue // the system is not in this run
		}
		res := t.result(r.name, c.clients)
		res.Samples = append(res.Samples, round3(got[r.of].rate/got[r.base].rate))
		res.Ratio, res.Spread = round3(median(res.Samples)), round3(spread(res.Samples))
	}
}

func (t *table) addIdle(system string, n int, each int64) {
	t.idle = append(t.idle, fmt.Sprintf("idle memory, %d sessions: %s %.1f KiB a session", n, system, float64(each)/1024))
}

func sorted(x []float64) []float64 {
	y := slices.Clone(x)
	slices.Sort(y)
	return y
}

func median(x []float64) float64 {
	y := sorted(x)
	n := len(y)
	return (y[(n-1)/2] + y[n/2]) / 2
}

// spread is half the distance between the quartiles, as a part of the median.
func spread(x []float64) float64 {
	y := sorted(x)
	n := len(y) - 1
	return (y[n-n/4] - y[n/4]) / 2 / median(x)
}

func round3(x float64) float64 { return float64(int(x*1000+0.5)) / 1000 }

// write prints the table and writes the files.
func (t *table) write(dir string, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "case\tclients\tsystem\trate/s\tspread\tmean us\tover direct us\tproxy CPU us\tlater us\tsyncs each\t")
	for _, f := range t.figures {
		fmt.Fprintf(w, "%s\t%d\t%s\t%.4g\t%.0f%%\t%.0f\t%.0f\t%.1f\t%.1f\t%.2f\t\n",
			f.name, f.clients, f.system, median(f.rates), 100*spread(f.rates), median(f.means), median(f.over), median(f.cpus), median(f.late), median(f.perSync))
	}
	fmt.Fprintln(w, "\t\t\t\t\t\t\t\t\t\t")
	fmt.Fprintln(w, "ratio\tclients\t\tmedian\tspread\t\t\t\t\t\t")
	for _, r := range t.results {
		fmt.Fprintf(w, "%s\t%d\t\t%.3f\t%.0f%%\t\t\t\t\t\t\n", r.Case, r.Clients, r.Ratio, 100*r.Spread)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(t.probes) > 0 {
		fmt.Fprintf(out, "\none sync of 1 KiB on the books' disk: median %.0f us (%.0f to %.0f)\n",
			median(t.probes), slices.Min(t.probes), slices.Max(t.probes))
	}
	fmt.Fprintf(out, "other programs took at most %.0f%% of the machine in a round\n", 100*t.others)
	for _, f := range t.figures {
		if f.clients == 1 && f.system == "gatebook-always" && strings.HasPrefix(f.name, "point-") {
			fmt.Fprintf(out, "%s, one client: %.0f us over direct beyond two syncs of the round's probe\n", f.name, median(f.beyond))
		}
	}
	for _, line := range t.idle {
		fmt.Fprintln(out, line)
	}
	if t.results == nil {
		return nil
	}
	text, err := json.MarshalIndent(t.results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o644); err != nil { //nolint:gosec // results are for everybody
		return err
	}
	return os.WriteFile(filepath.Join(dir, "results.svg"), t.svg(), 0o644) //nolint:gosec // results are for everybody
}

// svg draws the ratios as bars with the samples' range; 1 is the peer's rate.
func (t *table) svg() []byte {
	const left, width, line = 330, 420, 22
	rates := slices.DeleteFunc(slices.Clone(t.results), func(r *result) bool { return r.Case == holdCase }) // a time, no rate
	top := 0.0
	for _, r := range rates {
		top = max(top, slices.Max(r.Samples))
	}
	scale := width / max(1, top)
	height := line*(len(rates)+2) + 10
	b := fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+width+70, height)
	b = fmt.Appendf(b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n"+`<text x="%d" y="16" font-weight="bold">rate as a ratio to the peer; bar: median, line: range of the samples</text>`+"\n", 10)
	for i, r := range rates {
		y := line * (i + 1)
		b = fmt.Appendf(b, `<text x="%d" y="%d" text-anchor="end">%s, %d client%s</text>`, left-8, y+16, r.Case, r.Clients, plural(r.Clients))
		b = fmt.Appendf(b, `<rect x="%d" y="%d" width="%.1f" height="14" fill="#4878a8"/>`, left, y+5, r.Ratio*scale)
		low, high := slices.Min(r.Samples), slices.Max(r.Samples)
		b = fmt.Appendf(b, `<path d="M%.1f %dH%.1f" stroke="black"/>`, left+low*scale, y+12, left+high*scale)
		b = fmt.Appendf(b, `<text x="%.1f" y="%d">%.2f</text>`+"\n", left+high*scale+6, y+16, r.Ratio)
	}
	b = fmt.Appendf(b, `<path d="M%.1f %dV%d" stroke="#888" stroke-dasharray="4 3"/>`+"\n", left+scale, line, height-line)
	return append(b, "</svg>\n"...)
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
