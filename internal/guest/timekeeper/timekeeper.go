// Package timekeeper synchronizes a guest's clock with the best source that answers: the host's
// clock through the kernel (PTP), the host over the network (SNTP), or public servers.
//
// A clock that is behind, for example after a suspend of the phone, is set forward at once. The
// clock is never set back while the guest runs, because that would break leases, logs and
// transactions that have used the later time. A clock that is ahead runs slower until it is
// correct; the status reports if that takes long. The clock may be set back only before the first
// service has started, which the guest's boot does, not this package.
package timekeeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// A Reading is a source's measurement of the clock.
type Reading struct {
	Server      string        // the server; empty if the source has only one
	Offset      time.Duration // to add to the clock
	Uncertainty time.Duration // maximum error of Offset
}

// A Source provides the time.
type Source struct {
	Name  string        // in the status
	Every time.Duration // between two readings
	// Shared says that the source is a public service: it is never read sooner than Every.
	Shared bool
	Read   func(context.Context) (Reading, error)
}

// A Clock can be corrected; the kernel's is Kernel.
type Clock interface {
	// Forward sets the clock forward by d, which is positive.
	Forward(d time.Duration) error
	// Drift slews the clock by d, at most 0.5 ms per second. A later call replaces an earlier one.
	Drift(d time.Duration) error
	// Brake slows the clock down by 1/brakeShare, or restores its normal speed.
	Brake(on bool) error
}

const (
	// stepAbove is the offset above which a clock is stepped instead of slewed (STEPT of RFC 5905).
	stepAbove = 128 * time.Millisecond
	// 1/brakeShare is the reduction of a braked clock's speed, the kernel's maximum (a tick of 9000
	// instead of 10000 microseconds, adjtimex(2)).
	brakeShare = 10
	// longBrake is the offset above which a clock that is ahead is a fault: it needs minutes of
	// braking.
	longBrake = 10 * time.Second
	// maxAhead limits an offset, so that computations with it do not overflow a Duration.
	maxAhead = 20 * 365 * 24 * time.Hour
	// A braked clock is read more often.
	brakeLook = 16 * time.Second
	// After a round without an answer the next one is soon, with growing pauses.
	firstRetry, lastRetry = time.Second, time.Minute
)

// A Keeper synchronizes the clock. Its fields are set before Run and not changed.
type Keeper struct {
	Sources []Source // in order of preference
	Clock   Clock
	Log     func(text string, attrs ...any)

	once sync.Once
	look chan struct{} // Look has read the sources

	turn  sync.Mutex           // held during a round
	next  map[string]time.Time // when a source may be read again
	fail  int                  // consecutive rounds without an answer
	slow  bool                 // the clock is braked
	right time.Time            // when a braked clock will be correct

	mu     sync.Mutex
	status guestapi.Clock
}

// sourceAtBoot is the source in the status until one has answered.
const sourceAtBoot = "config disk"

// Run synchronizes the clock until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	for {
		pause := k.round(ctx, false)
		select {
		case <-time.After(pause):
		case <-k.looked():
		case <-ctx.Done():
			k.turn.Lock()
			defer k.turn.Unlock()
			k.brake(false)
			return
		}
	}
}

// Look reads the sources now and returns the resulting status. It is for a caller that knows that
// the clock may be wrong.
func (k *Keeper) Look(ctx context.Context) guestapi.Clock {
	k.round(ctx, true)
	select {
	case k.looked() <- struct{}{}: // Run may have to wake up earlier
	default:
	}
	return k.Status()
}

func (k *Keeper) looked() chan struct{} {
	k.once.Do(func() { k.look = make(chan struct{}, 1) })
	return k.look
}

// Status returns the clock's source and state.
func (k *Keeper) Status() guestapi.Clock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status.Source == "" {
		return guestapi.Clock{Source: sourceAtBoot, Fault: k.status.Fault}
	}
	return k.status
}

// round reads the first source that answers, corrects the clock and returns the time until the next
// round. It skips sources that are not due; with now set, it skips only shared ones.
func (k *Keeper) round(ctx context.Context, now bool) time.Duration {
	k.turn.Lock()
	defer k.turn.Unlock()
	if k.next == nil {
		k.next = make(map[string]time.Time)
	}
	var faults []error
	// soon shortens a pause while a better source does not answer, because it may answer again.
	soon := func(pause time.Duration) time.Duration {
		if len(faults) > 0 {
			return min(pause, lastRetry)
		}
		return pause
	}
	for _, s := range k.Sources {
		wait := time.Until(k.next[s.Name])
		if wait > 0 && (s.Shared || !now && !k.slow) {
			return k.coast(soon(wait))
		}
		r, err := s.Read(ctx)
		if err != nil {
			delete(k.next, s.Name)
			faults = append(faults, err)
			continue
		}
		k.fail = 0
		k.next[s.Name] = time.Now().Add(s.Every)
		return soon(k.correct(s, r))
	}
	return k.lost(ctx, faults)
}

// coast ends the braking of a clock without readings when it should be correct, and returns the
// time until the next round.
func (k *Keeper) coast(pause time.Duration) time.Duration {
	if !k.slow {
		return pause
	}
	if left := time.Until(k.right); left > 0 {
		return min(pause, left)
	}
	if err := k.brake(false); err != nil {
		k.Log("the clock cannot be corrected", "error", err)
	}
	return pause
}

// lost records that no source answers. A clock without readings must not be braked.
func (k *Keeper) lost(ctx context.Context, faults []error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	k.brake(false)
	fault := "no time source answers"
	if err := errors.Join(faults...); err != nil {
		fault = "no time source answers: " + err.Error()
	}
	k.mu.Lock()
	k.status.Fault = fault
	k.mu.Unlock()
	if k.fail++; k.fail == 2 { // a network that has just come up may lose the first request
		k.Log("the clock is not kept", "fault", fault)
	}
	return min(firstRetry<<min(k.fail-1, 10), lastRetry)
}

// correct applies r and returns the time until the next round.
func (k *Keeper) correct(s Source, r Reading) time.Duration {
	fault, pause := "", s.Every
	var err error
	switch {
	case r.Offset.Abs() <= r.Uncertainty:
		err = k.brake(false)
	case r.Offset > stepAbove:
		if err = errors.Join(k.brake(false), k.Clock.Drift(0), k.Clock.Forward(r.Offset)); err == nil {
			k.Log("the clock was behind and was set forward", "by", r.Offset.Round(time.Millisecond), "source", s.Name)
		}
	case r.Offset >= -stepAbove:
		err = errors.Join(k.brake(false), k.Clock.Drift(r.Offset))
	default:
		// The braked clock measures this time.
		ahead := min(-r.Offset, maxAhead)
		lasts := ahead * (brakeShare - 1)
		k.right, pause = time.Now().Add(lasts), min(lasts, brakeLook)
		if -r.Offset > longBrake {
			fault = fmt.Sprintf("the clock is %s ahead. It is not set back while services run, but runs a tenth slower, for the next %s; a restart of the machine sets it at once",
				-r.Offset.Round(time.Second), (ahead * brakeShare).Round(time.Minute))
		}
		if !k.slow {
			k.Log("the clock is ahead and runs slower until it is right", "by", -r.Offset.Round(time.Millisecond), "source", s.Name)
		}
		err = errors.Join(k.Clock.Drift(0), k.brake(true))
	}
	if err != nil {
		fault = "the clock cannot be corrected: " + err.Error()
	}
	k.tell(s, r, fault)
	return pause
}

func (k *Keeper) brake(on bool) error {
	if on == k.slow {
		return nil
	}
	if err := k.Clock.Brake(on); err != nil {
		return err
	}
	k.slow = on
	return nil
}

// tell updates the status with a reading, and logs a change of the source.
func (k *Keeper) tell(s Source, r Reading, fault string) {
	k.mu.Lock()
	before := k.status
	k.status = guestapi.Clock{Source: s.Name, Server: r.Server, Offset: r.Offset.Seconds(), LastSync: time.Now().UTC(), Fault: fault}
	k.mu.Unlock()
	if before.Source != s.Name {
		k.Log("the clock is kept", "source", s.Name, "server", r.Server, "offset", r.Offset.Round(time.Microsecond))
	}
	if fault != "" && before.Fault == "" {
		k.Log(fault)
	}
}
