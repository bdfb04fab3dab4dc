package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Client calls a service, over its socket or in process.
type Client struct{ http http.Client }

// Dial returns a client of the gateway that serves the socket. It fails at
// once if nobody listens there.
func Dial(ctx context.Context, socket string) (*Client, error) {
	var d net.Dialer
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) }
	conn, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	if err := conn.Close(); err != nil {
		return nil, err
	}
	return &Client{http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
}

// Local returns a client of a service in this process.
func Local(s *Service, c Caller) *Client {
	return &Client{http: http.Client{Transport: &local{s.Handler(), c}}}
}

// local is a round tripper that calls a handler.
type local struct {
	h http.Handler
	c Caller
}

func (l *local) RoundTrip(r *http.Request) (*http.Response, error) {
	pr, pw := io.Pipe()
	w := &localWriter{header: make(http.Header), status: make(chan int, 1), pipe: pw}
	resp := &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Body: pr, Request: r, Trailer: make(http.Header)}
	go func() {
		l.h.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), l.c)))
		w.WriteHeader(http.StatusOK)
		if v := w.header.Get(trailer); v != "" {
			resp.Trailer.Set(trailer, v)
		}
		_ = pw.Close()
	}()
	select {
	case resp.StatusCode = <-w.status:
		return resp, nil
	case <-r.Context().Done():
		_ = pr.CloseWithError(context.Cause(r.Context()))
		return nil, context.Cause(r.Context())
	}
}

type localWriter struct {
	header http.Header
	status chan int
	sent   bool
	pipe   *io.PipeWriter
}

func (w *localWriter) Header() http.Header { return w.header }
func (w *localWriter) WriteHeader(code int) {
	if !w.sent {
		w.sent = true
		w.status <- code
	}
}

func (w *localWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(p)
}
func (w *localWriter) FlushError() error { return nil }

// call sends a request and returns the answer if it is a success.
func (c *Client) call(ctx context.Context, method, path string, in any) (*http.Response, error) {
	body := []byte("{}")
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://gatebook"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var p problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		return nil, fmt.Errorf("the gateway answered %s", resp.Status)
	}
	return nil, errors.New(p.Error)
}

// Call sends a request and decodes the answer.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.call(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return json.NewDecoder(resp.Body).Decode(out)
}

// errCut says that a stream ended before it was complete.
var errCut = errors.New("the answer was cut off")

// Lines sends a request and gives the answer line by line.
func (c *Client) Lines(ctx context.Context, method, path string, in any, line func(json.RawMessage) error) error {
	resp, err := c.call(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(resp.Body)
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		var p problem
		if bytes.HasPrefix(raw, []byte(`{"error":`)) && json.Unmarshal(raw, &p) == nil {
			return errors.New(p.Error)
		}
		if err := line(raw); err != nil {
			return err
		}
	}
	if resp.Trailer.Get(trailer) == "" {
		return errCut
	}
	return nil
}

// Export asks for a package and writes it to w.
func (c *Client) Export(ctx context.Context, in ExportRequest, progress func(done, total uint64), w io.Writer) error {
	resp, err := c.call(ctx, http.MethodPost, "/v1/export", in)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	r := bufio.NewReaderSize(resp.Body, 64<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return errCut
		}
		line = strings.TrimSuffix(line, "\n")
		var done, total uint64
		if _, err := fmt.Sscanf(line, "progress %d %d", &done, &total); err == nil {
			progress(done, total)
			continue
		}
		var text string
		if _, err := fmt.Sscanf(line, "error %q", &text); err == nil {
			return errors.New(text)
		}
		if line != "package" {
			return errCut
		}
		break
	}
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	if resp.Trailer.Get(trailer) == "" {
		return errCut
	}
	return nil
}
