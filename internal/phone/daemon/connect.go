package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Connect connects in and out to a machine's service, by name or port number, until both directions
// have ended. It runs on the phone because only the phone knows the guest's address.
func Connect(ctx context.Context, root phonepath.Root, name, service string, in io.Reader, out io.Writer) error {
	p, err := newPatient(root, name, nil)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", name, err)
	}
	port, err := p.artifact.spec.TCPPort(service)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", name, err)
	}
	conn, err := dial(ctx, netip.AddrPortFrom(p.network.Guest.Addr(), uint16(port)))
	if err != nil {
		return fmt.Errorf("connect to %s of %s: %w", service, name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		io.Copy(conn, in) // an error also ends the other direction
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.CloseWrite()
		}
	}()
	if _, err := io.Copy(out, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("connection to %s of %s: %w", service, name, err)
	}
	return nil
}
