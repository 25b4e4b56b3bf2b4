// Package timekeeper keeps a guest's clock by the best source that answers: the host's clock
// through the kernel (PTP), the host over the network (SNTP), public servers.
//
// A clock that is behind is set forward at once; that is the case after a phone slept. It is never
// set back while the guest runs, for that would confuse every lease, log and transaction that has
// seen the later time: a clock that is ahead runs slower until it is right, and where that takes
// long the status says so. The one time at which a clock may be set back is before the first
// service has started; the guest's boot does that, not this package.
package timekeeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// A Reading is what a source says of the clock.
type Reading struct {
	Server      string        // who said so; empty where the source has only one
	Offset      time.Duration // to be added to the clock to make it right
	Uncertainty time.Duration // by which Offset may be wrong
}

// A Source knows the time.
type Source struct {
	Name  string        // as the status has it
	Every time.Duration // between two readings
	// Shared is set where the source belongs to others: it is never asked sooner than Every says.
	Shared bool
	Read   func(context.Context) (Reading, error)
}

// A Clock can be corrected; the kernel's is Kernel.
type Clock interface {
	// Forward sets the clock forward by d, which is positive.
	Forward(d time.Duration) error
	// Drift corrects the clock by d in the course of time, at most 0.5 ms a second, without its
	// ever standing still. A later call takes the place of an earlier one.
	Drift(d time.Duration) error
	// Brake makes the clock run slower, by one part in brakeShare, or as fast as it should again.
	Brake(on bool) error
}

const (
	// stepAbove is the offset from which a clock is set rather than led (STEPT of RFC 5905).
	stepAbove = 128 * time.Millisecond
	// brakeShare is the part by which a braked clock is slower: what the kernel takes at most (a
	// tick of 9000 in place of 10000 microseconds, adjtimex(2)).
	brakeShare = 10
	// longBrake is the offset from which it is a fault that the clock is ahead: some minutes of
	// braking.
	longBrake = 10 * time.Second
	// maxAhead is more than will ever be waited for, and keeps what is computed from it within a
	// Duration.
	maxAhead = 20 * 365 * 24 * time.Hour
	// While the clock is braked it is looked at more often.
	brakeLook = 16 * time.Second
	// After a round without an answer the next one comes soon, and then ever later.
	firstRetry, lastRetry = time.Second, time.Minute
)

// A Keeper keeps the clock. Its fields are set before Run and not changed.
type Keeper struct {
	Sources []Source // in order of preference
	Clock   Clock
	Log     func(text string, attrs ...any)

	once sync.Once
	look chan struct{} // Look has read the sources

	turn  sync.Mutex           // held for a round: there is one clock
	next  map[string]time.Time // when a source that has answered is due again
	fail  int                  // rounds in a row without an answer
	slow  bool                 // the clock is braked
	right time.Time            // when a braked clock will be right

	mu     sync.Mutex
	status guestapi.Clock
}

// sourceAtBoot is what the status names until a source has answered.
const sourceAtBoot = "config disk"

// Run keeps the clock until ctx is done.
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

// Look reads the sources now, for a caller that knows that the clock may be wrong, and returns the
// status after it.
func (k *Keeper) Look(ctx context.Context) guestapi.Clock {
	k.round(ctx, true)
	select {
	case k.looked() <- struct{}{}: // Run may have to come back sooner than it meant to
	default:
	}
	return k.Status()
}

func (k *Keeper) looked() chan struct{} {
	k.once.Do(func() { k.look = make(chan struct{}, 1) })
	return k.look
}

// Status tells who keeps the clock and how well.
func (k *Keeper) Status() guestapi.Clock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status.Source == "" {
		return guestapi.Clock{Source: sourceAtBoot, Fault: k.status.Fault}
	}
	return k.status
}

// round reads the first source that answers, corrects the clock and returns when the next round is
// due. Sources that are not due yet are left alone; with now set, only those that are shared.
func (k *Keeper) round(ctx context.Context, now bool) time.Duration {
	k.turn.Lock()
	defer k.turn.Unlock()
	if k.next == nil {
		k.next = make(map[string]time.Time)
	}
	var faults []error
	// soon shortens a pause while a better source does not answer: it may answer at any moment.
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

// coast lets a braked clock that is not looked at go when it should be right, and returns the time
// until the next round.
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

// lost notes that no source answers. A clock that is not compared must not be braked.
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
	if k.fail++; k.fail == 2 { // a network that has just come up may lose the first question
		k.Log("the clock is not kept", "fault", fault)
	}
	return min(firstRetry<<min(k.fail-1, 10), lastRetry)
}

// correct does what r asks for and returns the time until the next round.
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
		// The braked clock is the one that times this.
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

// tell puts a reading into the status, and a change of the source into the log.
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
