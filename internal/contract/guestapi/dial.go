package guestapi

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
)

// FirstUnprivileged is the first TCP port from which a user other than root can connect (ip(7),
// ip_unprivileged_port_start).
const FirstUnprivileged = 1024

// firstDialed is the first local port that this package uses, the same as rresvport(3).
const firstDialed = 512

// dial connects to a guest. Root uses a privileged local port, so that the guest still answers root
// while other users of the host flood the endpoint.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: requestTimeout}
	if os.Geteuid() != 0 {
		return dialer.DialContext(ctx, network, address)
	}
	const attempts = 8 // ports of recent connections stay in use for a minute
	for range attempts {
		dialer.LocalAddr = &net.TCPAddr{Port: firstDialed + rand.IntN(FirstUnprivileged-firstDialed)}
		conn, err := dialer.DialContext(ctx, network, address)
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EACCES) {
			return conn, err
		}
	}
	dialer.LocalAddr = nil
	return dialer.DialContext(ctx, network, address)
}
