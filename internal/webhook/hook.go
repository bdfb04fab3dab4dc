package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/netguard"
	"github.com/gatebook/gatebook/internal/secret"
)

// Bounds of deliveries.
const (
	// queued is how many messages wait for one hook.
	queued = 256
	// answerTime is how long one attempt may take.
	answerTime = 5 * time.Second
	// maxAnswer is how much of an answer is read, in bytes; it means nothing.
	maxAnswer = 64 << 10
	// giveUp is how long one message is tried.
	giveUp = 10 * time.Minute
	// firstPause is doubled after each attempt, up to maxPause.
	firstPause = time.Second
	maxPause   = 2 * time.Minute
)

// Hook is a server that is told.
type Hook struct {
	Name    string
	URL     string
	Secret  secret.Ref  // read at each attempt
	CA      secret.File // the zero File: the system's roots
	Allow   netguard.Allow
	Tickets bool // it gets messages about tickets
	Alerts  bool // it gets alerts
}

// client makes a client for one attempt. Connections are not kept: messages are rare, and an idle connection would outlive a
// change of the CA file or of the address.
func (h *Hook) client() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if !h.CA.IsZero() {
		pem, err := h.CA.Load()
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s: no certificate in it", h.CA)
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: netguard.Dialer(h.Allow).DialContext, TLSClientConfig: conf, DisableKeepAlives: true, DisableCompression: true,
			MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// post makes one attempt to deliver a message. An answer of 2xx takes it.
func (h *Hook) post(ctx context.Context, m *message) error {
	key, err := loadKey(h.Secret)
	if err != nil {
		return err
	}
	client, err := h.client()
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, answerTime)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(m.body))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("User-Agent", "gatebook")
	req.Header.Set(headerID, m.id)
	req.Header.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(headerSignature, sign(key, m.id, now, m.body))
	res, err := client.Do(req)
	if failure := (*url.Error)(nil); errors.As(err, &failure) {
		err = failure.Err // the URL itself may be a secret, as those of chats are
	}
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("it answered %d", res.StatusCode)
	}
	return nil
}

// mustArrive reports whether the message is an alert whose loss is recorded: not one that is itself about such a loss.
func (m *message) mustArrive() bool {
	return m.alert != nil && m.alert.What != evidence.AlertWebhookFailed
}
