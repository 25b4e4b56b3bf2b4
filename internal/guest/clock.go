//go:build linux

package guest

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// setClockForward sets the clock to t if it is behind, and reports by how much it was. It never
// sets a clock back: time that went backwards would confuse every lease and every log.
func setClockForward(t time.Time) (behind time.Duration, err error) {
	behind = time.Until(t)
	if behind <= 0 {
		return 0, nil
	}
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return 0, fmt.Errorf("set the clock: %w", err)
	}
	return behind, nil
}

// uptime is the time since the kernel started, including what it slept.
func uptime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail on Linux
	return time.Duration(ts.Nano())
}
