package network

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// settle is the pause in the kernel's reports after which Follow acts: netd changes an uplink
	// in a dozen steps.
	settle = 100 * time.Millisecond
	// settleAtMost is the maximum wait if reports do not pause.
	settleAtMost = time.Second
	// slowPoll is the interval of checks for changes that the kernel does not report, such as in
	// iptables.
	slowPoll = 10 * time.Second
)

// Follow maintains the network that want returns until ctx ends. It calls report after each Up that
// changed something or failed, when the TAP interface gained or lost its carrier, and when the
// warnings changed.
func (h *Host) Follow(ctx context.Context, want func() VM, report func(Report, error)) {
	changes, err := h.watch(ctx)
	if err != nil {
		h.log(fmt.Sprintf("listen to the kernel for changes of the network: %v: looking every %v instead", err, h.poll))
	}
	poll := time.NewTicker(h.poll)
	defer poll.Stop()
	var last string
	carrier := false
	for {
		r, err := h.Up(ctx, want())
		if ctx.Err() != nil {
			return
		}
		said := fmt.Sprint(err, r.Warnings)
		if len(r.Changed) > 0 || said != last || r.Carrier != carrier { // a repeated failure is reported once
			report(r, err)
		}
		last, carrier = said, r.Carrier
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			if changes == nil {
				changes, _ = h.watch(ctx) // the error is already reported
			}
		case _, open := <-changes:
			if !open {
				changes = nil
				continue
			}
			settleDown(ctx, changes)
		}
	}
}

// settleDown returns when no report has come for a while.
func settleDown(ctx context.Context, changes <-chan struct{}) {
	most := time.After(settleAtMost)
	for {
		select {
		case _, open := <-changes:
			if !open {
				return
			}
		case <-time.After(settle):
			return
		case <-most:
			return
		case <-ctx.Done():
			return
		}
	}
}

// watch returns a channel that holds a value after links, addresses, routes, rules, ip_forward or
// rp_filter have changed. It is closed when ctx ends or the kernel's reports do.
func watch(ctx context.Context) (<-chan struct{}, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV4_NETCONF)
	if err != nil {
		return nil, err
	}
	changes := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, socket.Close) // which ends Receive
	go func() {
		defer close(changes)
		defer socket.Close()
		defer stop()
		for {
			_, _, err := socket.Receive()
			switch err {
			case unix.EINTR:
				continue
			case nil, unix.ENOBUFS: // reports were lost: something has changed
			default:
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}
