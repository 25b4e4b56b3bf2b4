//go:build linux

package timekeeper

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Kernel is the clock of this machine.
type Kernel struct{}

// The normal and the minimum length of a tick in microseconds (adjtimex(2); USER_HZ is 100 on all
// architectures).
const (
	fullTick   = 10000
	brakedTick = fullTick - fullTick/brakeShare
)

// Forward implements Clock. The kernel adds d to the current time atomically.
func (Kernel) Forward(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("set the clock forward by %s", d)
	}
	// With ADJ_NANO the field for microseconds has nanoseconds.
	return adjust("set the clock forward", unix.Timex{
		Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Sec: int64(d / time.Second), Usec: int64(d % time.Second)},
	})
}

// Drift implements Clock like adjtime(3), which ends automatically.
func (Kernel) Drift(d time.Duration) error {
	return adjust("correct the clock", unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: d.Microseconds()})
}

// Brake implements Clock.
func (Kernel) Brake(on bool) error {
	tick := int64(fullTick)
	if on {
		tick = brakedTick
	}
	return adjust("set the clock's speed", unix.Timex{Modes: unix.ADJ_TICK, Tick: tick})
}

func adjust(what string, t unix.Timex) error {
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Set sets the clock to t, forward or back. It may be used only before anything has read the clock.
func (Kernel) Set(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}
