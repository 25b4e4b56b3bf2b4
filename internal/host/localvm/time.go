package localvm

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sovereign-sql/sov/internal/sntp"
)

// A timeServer tells a guest the time. It listens on a port of loopback, which the guest reaches at its host's address,
// so that neither a privilege nor the Internet is needed.
type timeServer struct {
	port   uint16
	cancel context.CancelFunc
	done   chan struct{}
}

func startTimeServer(now func() time.Time) (*timeServer, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		return nil, fmt.Errorf("time server: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &timeServer{conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(), cancel, make(chan struct{})}
	go func() {
		defer close(s.done)
		_ = sntp.Server{Now: now}.Serve(ctx, conn) // it ends with s
	}()
	return s, nil
}

func (s *timeServer) close() {
	s.cancel()
	<-s.done
}
