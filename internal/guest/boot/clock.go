//go:build linux

package boot

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/timekeeper"
)

// clockSlack is how far the clock may be ahead of the config disk's time before it is set back:
// about the time between writing and reading the disk. With a disk image, firmware runs in between,
// for up to 20 s in an emulator.
const clockSlack, firmwareSlack = 5 * time.Second, 2 * time.Minute

// setClock sets the clock to t if it is behind or more than slack ahead, and returns the change. It
// may be called only before anything has read the clock: later the clock is never set back.
func setClock(t time.Time, slack time.Duration) (by time.Duration, err error) {
	by = time.Until(t)
	if by <= 0 && -by <= slack || t.IsZero() {
		return 0, nil
	}
	if err := (timekeeper.Kernel{}).Set(t); err != nil {
		return 0, err
	}
	return by, nil
}

// keepClock synchronizes the clock until ctx is done.
func (m *machine) keepClock(ctx context.Context) {
	var sources []timekeeper.Source
	if ptp, ok := timekeeper.FindPTP("/sys", "/dev"); ok {
		sources = append(sources, ptp)
	}
	if port, ok := timekeeper.FindPort("/sys", "/dev"); ok {
		sources = append(sources, port)
	}
	if servers := m.config.TimeServers; len(servers) > 0 {
		sources = append(sources, timekeeper.Host(servers))
	}
	if names := m.spec.TimeServers; len(names) > 0 {
		sources = append(sources, timekeeper.Public(names))
	}
	keeper := &timekeeper.Keeper{
		Sources: sources, Clock: timekeeper.Kernel{},
		Log: func(text string, attrs ...any) { m.console.Log(journal.Info, journal.InitName, text, attrs...) },
	}
	m.mu.Lock()
	m.clock = keeper
	m.mu.Unlock()
	m.spawn("clock", func() { keeper.Run(ctx) })
}

// ReadClock implements endpoint.Machine.
func (m *machine) ReadClock(ctx context.Context) (guestapi.Clock, bool) {
	m.mu.Lock()
	clock := m.clock
	m.mu.Unlock()
	if clock == nil {
		return guestapi.Clock{}, false
	}
	return clock.Look(ctx), true
}

// uptime returns the time since the kernel started, including suspends.
func uptime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail on Linux
	return time.Duration(ts.Nano())
}
