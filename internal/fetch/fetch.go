// Package fetch downloads files over HTTP for builds. Requests and transfers have timeouts,
// temporary errors are retried a few times, and sizes are limited. Errors distinguish a rejected
// request, an unreachable server and an offline build. The caller must verify the content.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// ErrOffline is wrapped by every error of a request in offline mode.
var ErrOffline = errors.New("not available offline; run once without --offline to fetch it")

// A Client downloads files. The zero Client uses the defaults below.
type Client struct {
	Transport http.RoundTripper // nil: NewTransport(DefaultTimeouts)
	Attempts  int               // maximum attempts for temporary errors; 0: 4
	Pause     time.Duration     // before the second attempt, doubled each time; 0: 500 ms
}

// A StatusError is a response with a status other than 200 OK.
type StatusError struct {
	URL    string
	Code   int
	Status string // "404 Not Found"
}

func (e *StatusError) Error() string { return e.URL + ": " + e.Status }

// Bytes returns the content of the file at location, a URL or path, of at most limit bytes.
func (c *Client) Bytes(ctx context.Context, location string, limit int64) ([]byte, error) {
	var b bytes.Buffer
	err := c.attempt(ctx, func() error {
		b.Reset()
		return c.copy(ctx, &b, location, limit)
	})
	return b.Bytes(), err
}

// File writes the content of the file at location, a URL or path, of at most limit bytes, to f. It
// replaces the content of f.
func (c *Client) File(ctx context.Context, f *os.File, location string, limit int64) error {
	return c.attempt(ctx, func() error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		return c.copy(ctx, f, location, limit)
	})
}

// Encrypted returns a copy of the client that rejects plain http except to loopback addresses. Use
// it for files with neither a known digest nor a signature.
func (c *Client) Encrypted() *Client {
	only := *c
	if only.Transport == Offline {
		return &only
	}
	if only.Transport == nil {
		only.Transport = NewTransport(DefaultTimeouts)
	}
	only.Transport = LoopbackHTTP(only.Transport)
	return &only
}

func (c *Client) attempt(ctx context.Context, fn func() error) error {
	return Retry(ctx, c.Attempts, c.Pause, fn)
}

// Retry calls fn until it succeeds, fails with a permanent error (see Passing), or attempts are
// used up. Zero values mean four attempts and a first pause of 500 ms.
func Retry(ctx context.Context, attempts int, pause time.Duration, fn func() error) error {
	if attempts == 0 {
		attempts = 4
	}
	if pause == 0 {
		pause = 500 * time.Millisecond
	}
	for i := 1; ; i++ {
		err := fn()
		if err == nil || i >= attempts || !Passing(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Passing reports whether an error may be temporary: a status of 5xx (except 501), 429 or 408, or a
// connection that broke or timed out. A name that does not resolve and a refused connection are
// permanent errors.
func Passing(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code >= 500 && status.Code != http.StatusNotImplemented ||
			status.Code == http.StatusTooManyRequests || status.Code == http.StatusRequestTimeout
	}
	if errors.Is(err, ErrOffline) || errors.Is(err, context.Canceled) || errors.Is(err, ErrInsecure) || errors.Is(err, ErrLocal) {
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary && !dns.IsNotFound
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op != "dial" || op.Timeout()
	}
	var timeout interface{ Timeout() bool }
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &timeout) && timeout.Timeout()
}

// IsURL reports whether a location is an http or https URL, not a path.
func IsURL(location string) bool {
	u, err := url.Parse(location)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

func (c *Client) copy(ctx context.Context, w io.Writer, location string, limit int64) error {
	body, err := c.open(ctx, location)
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := io.Copy(w, io.LimitReader(body, limit+1))
	if err != nil {
		return fmt.Errorf("%s: after %d bytes: %w", location, n, err)
	}
	if n > limit {
		return fmt.Errorf("%s is larger than the %d bytes expected at most", location, limit)
	}
	return nil
}

func (c *Client) open(ctx context.Context, location string) (io.ReadCloser, error) {
	if !IsURL(location) {
		return os.Open(location)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, err
	}
	transport := c.Transport
	if transport == nil {
		transport = NewTransport(DefaultTimeouts)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, explain(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, &StatusError{URL: location, Code: resp.StatusCode, Status: resp.Status}
	}
	return resp.Body, nil
}

// Unreachable reports whether err means that a server is unreachable: its name does not resolve, or
// a connection could not be established, broke, or timed out.
func Unreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) || errors.As(err, &dns) || errors.Is(err, os.ErrDeadlineExceeded)
}

// explain adds a hint to the error of an unreachable server.
func explain(err error) error {
	if Unreachable(err) {
		return fmt.Errorf("%w (no connection? a build whose lock and cache are filled needs none)", err)
	}
	return err
}
