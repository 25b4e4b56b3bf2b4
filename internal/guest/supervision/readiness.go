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
	// probeTimeout bounds one look at a service.
	probeTimeout = 5 * time.Second
	// The first look comes soon, for services that are quick; later ones cost less.
	firstProbe, lastProbe = 20 * time.Millisecond, 250 * time.Millisecond
)

// probe looks at the service until it is ready or ctx is done. A service that cannot be looked at
// has to run for a while: one that ends at once, again and again, is never ready.
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

// settling is how long a service without a check has to run until it is ready: as long as the pause
// before its next start would be.
func (s *service) settling() time.Duration {
	s.sup.mu.Lock()
	defer s.sup.mu.Unlock()
	return backoff(s.spec.Restart, s.state.Failures+1)
}

// wait waits, unless ctx is done before.
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

// probeSocket connects and, if ask is not nil, asks.
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

// asker asks a service on this machine: what its certificate says does not matter, and a
// redirection is an answer.
var asker = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// probeHTTP wants an answer with a status from 200 to 399.
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
