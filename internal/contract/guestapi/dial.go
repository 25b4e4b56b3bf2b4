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

// firstDialed is the first port from which this package connects; rresvport(3) takes the same ones.
const firstDialed = 512

// dial connects to a guest. Root connects from a privileged port: a guest whose endpoint is flooded
// by other users of the host answers root all the same.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: requestTimeout}
	if os.Geteuid() != 0 {
		return dialer.DialContext(ctx, network, address)
	}
	const attempts = 8 // ports of recent connections are taken for a minute
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
