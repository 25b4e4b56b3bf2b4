package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// Timeouts limit each part of a request. A request as a whole has none: a large file may take long
// over a slow connection.
type Timeouts struct {
	Connect time.Duration // name lookup, TCP and TLS, each
	Header  time.Duration // from the request to the response header
	Idle    time.Duration // without a byte of the body

	// Window is the longest time for which a body may be slower than LeastRate, not counting the
	// reader's own time. 0: as in DefaultTimeouts.
	Window time.Duration
}

// LeastRate is the minimum rate of a body, in bytes per second. Tethering over EDGE is eight times
// as fast.
const LeastRate = 2 << 10

// DefaultTimeouts allow tethering through a phone, and detect a dead server within a minute.
var DefaultTimeouts = Timeouts{Connect: 10 * time.Second, Header: 30 * time.Second, Idle: 30 * time.Second, Window: time.Minute}

// NewTransport returns a transport with these timeouts. It uses the proxies of the environment.
func NewTransport(t Timeouts) http.RoundTripper {
	inner := http.DefaultTransport.(*http.Transport).Clone()
	inner.DialContext = (&net.Dialer{Timeout: t.Connect, KeepAlive: 30 * time.Second, ControlContext: refuseLocal}).DialContext
	inner.TLSHandshakeTimeout = t.Connect
	inner.ResponseHeaderTimeout = t.Header
	inner.MaxIdleConnsPerHost = 8
	if t.Window == 0 {
		t.Window = DefaultTimeouts.Window
	}
	return confined{idleTransport{inner, t.Idle, t.Window}}
}

// Offline fails every request with ErrOffline.
var Offline http.RoundTripper = offline{}

type offline struct{}

func (offline) RoundTrip(req *http.Request) (*http.Response, error) {
	return nil, ErrOffline
}

// ErrInsecure is wrapped by the error of a request that would leave this computer unencrypted.
var ErrInsecure = errors.New("plain http is used for this computer's own addresses only: use https")

// LoopbackHTTP returns a transport that allows plain http only to loopback addresses.
func LoopbackHTTP(t http.RoundTripper) http.RoundTripper { return loopbackHTTP{t} }

type loopbackHTTP struct{ http.RoundTripper }

func (t loopbackHTTP) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !IsLoopback(req.URL.Host) {
		return nil, fmt.Errorf("%s: %w", req.URL.Host, ErrInsecure)
	}
	return t.RoundTripper.RoundTrip(req)
}

// IsLoopback reports whether a host, with or without a port, is localhost or a loopback address. It
// does not resolve names.
func IsLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// idleTransport cancels a response whose body stalls or is too slow.
type idleTransport struct {
	http.RoundTripper
	idle, window time.Duration
}

func (t idleTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := t.RoundTripper.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	body := &idleBody{ReadCloser: resp.Body, cancel: cancel, idle: t.idle, window: t.window, ctx: ctx}
	body.timer = time.AfterFunc(t.idle, func() { cancel(errStalled(t.idle)) })
	resp.Body = body
	return resp, nil
}

// errStalled is a timeout error. Its value is the time without data.
type errStalled time.Duration

func (e errStalled) Error() string {
	return fmt.Sprintf("nothing has arrived for %s", time.Duration(e))
}
func (e errStalled) Timeout() bool { return true }
func (e errStalled) Unwrap() error { return os.ErrDeadlineExceeded }

type idleBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
	once   sync.Once

	window, waited time.Duration // waited within this window
	arrived        int64         // within this window
}

// errSlow is a timeout error for a slow body.
type errSlow time.Duration

func (e errSlow) Error() string {
	return fmt.Sprintf("the server is too slow: less than %d bytes a second for %s", LeastRate, time.Duration(e))
}
func (e errSlow) Timeout() bool { return true }
func (e errSlow) Unwrap() error { return os.ErrDeadlineExceeded }

func (b *idleBody) Read(p []byte) (int, error) {
	begin := time.Now()
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.timer.Reset(b.idle)
	}
	b.waited += time.Since(begin)
	b.arrived += int64(n)
	if b.waited >= b.window {
		if err == nil && float64(b.arrived) < LeastRate*b.waited.Seconds() {
			return n, errSlow(b.window)
		}
		b.waited, b.arrived = 0, 0
	}
	var stalled errStalled
	if err != nil && errors.As(context.Cause(b.ctx), &stalled) {
		err = stalled
	}
	return n, err
}

func (b *idleBody) Close() error {
	b.once.Do(func() {
		b.timer.Stop()
		b.cancel(nil)
	})
	return b.ReadCloser.Close()
}
