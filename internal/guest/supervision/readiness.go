//go:build linux

package supervision

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

const (
	// probeTimeout is the timeout of one probe.
	probeTimeout = 5 * time.Second
	// The interval of probes grows: short at first for fast services, longer later to save CPU
	// time.
	firstProbe, lastProbe = 20 * time.Millisecond, 250 * time.Millisecond
)

// probe probes the service until it is ready or ctx is done. A service without a check must run for
// a minimum time, so that one that keeps exiting at once is never ready.
func (s *service) probe(ctx context.Context) error {
	r := s.spec.Ready
	if !r.Checks() {
		if s.isTask() {
			return nil
		}
		return wait(ctx, s.settling())
	}
	for pause := firstProbe; ; pause = min(2*pause, lastProbe) {
		once, cancel := context.WithTimeout(ctx, probeTimeout)
		err := s.probeOnce(once, r)
		cancel()
		if err == nil {
			return nil
		}
		if r.Interval > 0 {
			pause = time.Duration(r.Interval)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// settling returns how long a service without a check must run to be ready: as long as the pause
// before its next start would be.
func (s *service) settling() time.Duration {
	s.sup.mu.Lock()
	defer s.sup.mu.Unlock()
	return backoff(s.spec.Restart, s.state.Failures+1)
}

// wait waits for d or until ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *service) probeOnce(ctx context.Context, r guestspec.Ready) error {
	switch {
	case r.HTTP != "":
		return probeHTTP(ctx, r.HTTP)
	case r.TCP != "":
		return probeSocket(ctx, "tcp", r.TCP, nil)
	case r.Unix != "":
		return probeSocket(ctx, "unix", r.Unix, nil)
	case strings.HasPrefix(r.Postgres, "/"):
		if err := readPostmaster(r.Postgres); err != nil {
			return err
		}
		return probeSocket(ctx, "unix", r.Postgres, askPostgres)
	case r.Postgres != "":
		return probeSocket(ctx, "tcp", r.Postgres, askPostgres)
	case len(r.Command) > 0:
		return s.command(r.Command, s.spec.User).Run(ctx, s.sup.config.Reaper)
	default:
		return nil
	}
}

// probeSocket connects and, if ask is not nil, calls it.
func probeSocket(ctx context.Context, network, address string, ask func(io.ReadWriter) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if ask == nil {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	return ask(conn)
}

// asker is the HTTP client for services on this machine. It does not verify certificates, and a
// redirect counts as a response.
var asker = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// probeHTTP returns an error unless the status of the response is from 200 to 399.
func probeHTTP(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := asker.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}
