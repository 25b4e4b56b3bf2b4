//go:build linux

package supervision

import (
	"context"
	"io"
	"net"
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

// probe looks at the service until it is ready or ctx is done.
func (s *service) probe(ctx context.Context) error {
	for pause := firstProbe; ; pause = min(2*pause, lastProbe) {
		once, cancel := context.WithTimeout(ctx, probeTimeout)
		err := s.probeOnce(once, s.spec.Ready)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *service) probeOnce(ctx context.Context, r guestspec.Ready) error {
	switch {
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
