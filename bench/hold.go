package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// holdGoal is how long it may take from a person's ruling until the request has run and its agent has the answer.
const holdGoal = 250 * time.Millisecond

// holdCase is the name of the result: its ratio is the time as a part of the goal.
const holdCase = "hold-decision/250ms"

// holdPeople is the part of a gateway's configuration that lets the bench rule on what it asks for: one who asks, another who rules.
const holdPeople = `owners: [{principal: "dev|bench", person: asker}]
people: [{person: asker}, {person: ruler, groups: [dba], keys: [%q]}]
`

// hold measures the time from handing in a ruling until the agent has its answer, which is a little more than until the request runs.
func (w *world) hold(s *system, n int) (times []float64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conninfo, password, err := s.login()
	if err != nil {
		return nil, err
	}
	c, err := pgconn.Connect(ctx, strings.Replace(conninfo, "channel_binding=disable", "", 1)+" password="+password)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(ctx) }()
	desk := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(w.dir, "gate-always", "data", "gatebook.sock"))
	}}}
	for i := range n {
		done := make(chan error, 1)
		var answered time.Time
		go func() {
			_, err := c.Exec(ctx, fmt.Sprintf("DELETE FROM held WHERE id = %d", i)).ReadAll()
			answered = time.Now()
			done <- err
		}()
		waiting, stop := context.WithCancelCause(ctx)
		go func() {
			err := <-done
			stop(fmt.Errorf("the request did not wait: %w", err))
			done <- err
		}()
		ticket, ruling, err := w.ruling(waiting, desk)
		if err != nil {
			return nil, errors.Join(err, c.Close(ctx))
		}
		began := time.Now()
		resp, err := desk.Post("http://gatebook/v1/tickets/"+ticket+"/rule", "application/json", bytes.NewReader(ruling))
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
		if err := <-done; err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the ruling was answered %s, the request %w", resp.Status, err)
		}
		times = append(times, answered.Sub(began).Seconds())
	}
	return times, nil
}

// ruling waits for the ticket and signs its approval, which is not part of the time.
func (w *world) ruling(ctx context.Context, desk *http.Client) (ticket string, ruling []byte, err error) {
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gatebook/v1/tickets", nil)
		if err != nil {
			return "", nil, err
		}
		resp, err := desk.Do(r)
		if err != nil {
			return "", nil, err
		}
		var list []struct{ ID, Digest, State string }
		err = json.NewDecoder(resp.Body).Decode(&list)
		_ = resp.Body.Close()
		if err != nil {
			return "", nil, err
		}
		for _, t := range list {
			if t.State != "open" {
				continue
			}
			statement := fmt.Sprintf("gatebook-ruling 1\nticket %s\ndigest %s\napprove\n\"\"\n", t.ID, t.Digest)
			sign := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", "gatebook-ruling", "-f", filepath.Join(w.dir, "ruler"))
			sign.Stdin = strings.NewReader(statement)
			signature, err := sign.Output()
			if err != nil {
				return "", nil, fmt.Errorf("ssh-keygen: %w", err)
			}
			ruling, err = json.Marshal(map[string]string{"statement": statement, "signature": string(signature)})
			return t.ID, ruling, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return "", nil, context.Cause(ctx)
}

// rulerKey makes the key of who rules, and returns its public line.
func (w *world) rulerKey() (string, error) {
	file := filepath.Join(w.dir, "ruler")
	if _, err := os.Stat(file); err != nil {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file).CombinedOutput(); err != nil {
			return "", fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	line, err := os.ReadFile(file + ".pub")
	return strings.TrimSpace(string(line)), err
}

// addHold notes the times, in seconds.
func (t *table) addHold(times []float64) error {
	r := t.result(holdCase, 1)
	for _, s := range times {
		r.Samples = append(r.Samples, round3(s/holdGoal.Seconds()))
	}
	r.Ratio, r.Spread = round3(median(r.Samples)), round3(spread(r.Samples))
	t.idle = append(t.idle, fmt.Sprintf("from a person's ruling to the agent's answer, %d times: median %.1f ms, slowest %.1f ms, goal %d ms",
		len(times), 1000*median(times), 1000*slices.Max(times), holdGoal.Milliseconds()))
	if r.Ratio > 1 {
		return fmt.Errorf("a ruling takes %.0f ms until its request has run, the goal is %s", 1000*median(times), holdGoal)
	}
	return nil
}
