package daemon

import (
	"time"

	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A verdict is the next action after an unrequested end of a run.
type verdict int

const (
	restartNow   verdict = iota // the guest has rebooted
	restartLater                // after a pause that doubles with each consecutive failure
	stayOff                     // the guest powered itself off
	giveUp                      // a restart cannot help
	crashLoop                   // it failed too often
)

const (
	firstBackoff = time.Second
	maxBackoff   = time.Minute
	// sound is how long a guest must be ready to reset the count of failures.
	sound = time.Minute
)

// A policy counts the failures of one machine and decides the next action after a run:
//
//	stopped            a guest that was ready has switched itself off: it stays off.
//	                   One that never was ready gave up at boot: a failure.
//	reset              a guest that was ready reboots: it is started again at once.
//	                   One that never was ready would do so for ever: a failure.
//	vanished, crash,
//	panic, watchdog,
//	killed             a failure: started again after a pause of 1 s, doubling up to 1 min
//	invalid arguments  starting again cannot help
//	failed             crosvm itself failed, such as for want of memory: a failure
//
// limit consecutive failures, without being ready for a minute in between, are a crash loop.
type policy struct {
	limit    int // consecutive failures
	failures int
}

// after returns the verdict for an ended run; ready is how long the guest was ready, 0 if never.
func (p *policy) after(exit crosvm.Exit, ready time.Duration) verdict {
	if ready >= sound {
		p.failures = 0
	}
	switch {
	case exit.Kind == crosvm.InvalidArguments:
		p.failures++
		return giveUp
	case exit.Kind == crosvm.Stopped && ready > 0:
		return stayOff
	case exit.Kind == crosvm.Reset && ready > 0:
		return restartNow
	}
	p.failures++
	if p.failures >= p.limit {
		return crashLoop
	}
	return restartLater
}

// pause returns the pause before the next start.
func (p *policy) pause() time.Duration {
	d := firstBackoff
	for range p.failures - 1 {
		if d *= 2; d >= maxBackoff {
			return maxBackoff
		}
	}
	return d
}
