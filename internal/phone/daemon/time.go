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

// timeServer is where the guest finds the phone's clock.
func timeServer(spec *vmspec.Spec) netip.AddrPort {
	return netip.AddrPortFrom(spec.Network.Host.Addr(), sntp.Port)
}

// timeRetry is the pause before the phone's address is tried again, where something else listens
// there.
const timeRetry = time.Minute

// serveTime tells the guest the phone's time until ctx ends. A guest that does not hear it asks
// public servers.
func serveTime(ctx context.Context, spec *vmspec.Spec, log func(string)) {
	said := false
	for ctx.Err() == nil {
		conn, err := listenOn(ctx, spec.Network.TAP, timeServer(spec))
		if err == nil {
			// What the phone shows before it was set must not become the guest's.
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

// listenOn listens for datagrams that come by one interface: an address of the phone's is reachable
// by all of them.
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

// behindAbove is how far a guest's clock may be behind the phone's before the guest is told to
// look: it looks by itself every minute.
const behindAbove = time.Second

// isBehind tells whether a guest that was asked at a time of the phone's, and showed a time when it
// answered, is behind: the phone slept, or its clock was set.
func isBehind(guest, asked time.Time) bool { return asked.Round(0).Sub(guest) > behindAbove }

// correctClock makes the guest look at its clock.
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
