package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/sntp"
)

// timeServer returns the address at which the guest reads the phone's clock.
func timeServer(spec *vmspec.Spec) netip.AddrPort {
	return netip.AddrPortFrom(spec.Network.Host.Addr(), sntp.Port)
}

// timeRetry is the pause before the next attempt if the address is in use.
const timeRetry = time.Minute

// serveTime serves the phone's time to the guest until ctx ends. A guest without it uses public
// servers.
func serveTime(ctx context.Context, spec *vmspec.Spec, log func(string)) {
	said := false
	for ctx.Err() == nil {
		conn, err := listenOn(ctx, spec.Network.TAP, timeServer(spec))
		if err == nil {
			// The time of a clock that was not set yet must not reach the guest.
			err = sntp.Server{Trusted: sntp.Plausible}.Serve(ctx, conn)
		}
		if err != nil && !said && ctx.Err() == nil {
			said = true
			log(fmt.Sprintf("the guest cannot be told the time and asks public servers: %v", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(timeRetry):
		}
	}
}

// listenOn listens for datagrams on one interface: an address of the phone is reachable through all
// interfaces.
func listenOn(ctx context.Context, link string, address netip.AddrPort) (net.PacketConn, error) {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", address.String())
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err == nil {
		var bound error
		err = raw.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), link) })
		if err == nil {
			err = bound
		}
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: %w", link, err)
	}
	return conn, nil
}

// behindAbove is how far a guest's clock may be behind the phone's before the daemon makes the
// guest read its sources. The guest also does so itself every minute.
const behindAbove = time.Second

// isBehind reports whether the guest's time in a response is behind the phone's time of the
// request, after a suspend or a change of the phone's clock.
func isBehind(guest, asked time.Time) bool { return asked.Round(0).Sub(guest) > behindAbove }

// correctClock makes the guest read its time sources.
func (w *guestWatch) correctClock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	clock, err := w.machine.guest.LookAtClock(ctx)
	switch {
	case err != nil:
		w.daemon.log(fmt.Sprintf("the guest's clock is behind, and it cannot be told so: %v", err))
	case clock.Fault != "":
		w.daemon.log("the guest's clock is behind: " + clock.Fault)
	default:
		w.daemon.log(fmt.Sprintf("the guest's clock was behind and was corrected by %.3f s", clock.Offset))
	}
}
