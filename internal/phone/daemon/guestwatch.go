package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A guestWatch polls the guest's status and updates the state.
type guestWatch struct {
	daemon   *Daemon
	machine  *run
	artifact *artifact
	near     *neighbourhood // nil if the guest does not need names of peers
	readyAt  chan time.Time // has the time when the guest was first ready
	ready    chan struct{}  // closed then
	failed   chan struct{}  // closed when the guest is stuck before that

	answered atomic.Bool // the guest has answered at least once
	stopping atomic.Bool // the guest has announced its shutdown
}

// end returns the exit with the guest's announcement.
func (w *guestWatch) end(exit crosvm.Exit) crosvm.Exit {
	exit.Announced = w.stopping.Load()
	return exit
}

func newGuestWatch(d *Daemon, r *run, a *artifact, near *neighbourhood) *guestWatch {
	return &guestWatch{daemon: d, machine: r, artifact: a, near: near, readyAt: make(chan time.Time, 1), ready: make(chan struct{}), failed: make(chan struct{})}
}

// Polling intervals: short until the guest is ready, so that callers do not wait long, and longer
// afterwards.
const (
	bootPoll  = 200 * time.Millisecond
	readyPoll = 5 * time.Second
	// A request before crosvm has opened the interface is lost, and TCP repeats it after a second:
	// the first requests have a shorter timeout.
	firstPatience = 100 * time.Millisecond
)

func (w *guestWatch) run(ctx context.Context) {
	late := time.Now().Add(w.artifact.spec.Ready.Timeout())
	answered, wasReady, hasFailed := false, false, false
	var corrected time.Time       // when the guest's clock was last corrected
	var node guestapi.TailnetNode // the one that is recorded
	for patience := firstPatience; ; {
		asked := time.Now()
		asking, cancel := context.WithTimeout(ctx, patience)
		status, err := w.machine.guest.Status(asking)
		cancel()
		took := time.Since(asked)
		if err == nil && isBehind(status.Time, asked) && time.Since(corrected) > readyPoll/2 {
			corrected = time.Now()
			w.correctClock(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil && !answered {
			answered = true
			w.answered.Store(true)
			// The guest has read its config disk, so the secrets in it can be removed.
			if err := w.machine.config.forget(); err != nil {
				w.daemon.log(err.Error())
			}
		}
		if err == nil && w.near != nil {
			w.near.tell(ctx)
		}
		if err == nil {
			if now := status.Tailnet.Node(); now != nil && *now != node {
				if err := noteNode(w.daemon.vm, now); err != nil {
					w.daemon.log(err.Error())
				} else {
					node = *now
				}
			}
		}
		if err == nil && status.Stopping {
			w.stopping.Store(true)
		}
		if err == nil && status.Ready && !wasReady {
			wasReady = true
			w.readyAt <- time.Now()
			close(w.ready)
			w.daemon.pass()
		}
		isLate := time.Now().After(late)
		w.tell(status, err, wasReady, isLate)
		if err == nil && !wasReady && !hasFailed && stuck(status) {
			hasFailed = true
			close(w.failed)
		}
		if patience = min(2*patience, guestPatience); answered {
			patience = guestPatience // a busy guest must not count as not answering
		}
		pause := bootPoll
		if isLate || err == nil && status.Ready {
			pause = readyPoll
		} else if err == nil {
			pause = guestapi.Pause(bootPoll, took)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// stuck reports whether a service has failed for good: with another major version's cluster, with a
// data disk that cannot be mounted.
func stuck(status *guestapi.Status) bool { return status.Describe(guestapi.StateFailed) != "" }

// tell updates the state with the guest's status if it has changed.
func (w *guestWatch) tell(status *guestapi.Status, fault error, wasReady, late bool) {
	phase, reason, isStuck := runnerapi.Booting, "", fault == nil && stuck(status)
	switch {
	case fault == nil && status.Ready:
		phase = runnerapi.Ready
	case fault == nil:
		reason = describe(status)
	case wasReady || late:
		reason = fault.Error()
	}
	if phase == runnerapi.Booting && (wasReady || late) {
		phase = runnerapi.NotReady
	}
	now := w.daemon.state.get()
	if now.Phase == phase && now.Reason == reason && now.Stuck == isStuck {
		return
	}
	w.daemon.state.change(func(s *runnerapi.State) {
		if s.Phase == runnerapi.Stopping {
			return
		}
		if phase == runnerapi.Ready && s.ReadyAt.IsZero() {
			s.ReadyAt = time.Now().UTC()
		}
		s.Phase, s.Reason, s.Stuck = phase, reason, isStuck
	})
}

// readyFor returns the time since the guest was first ready, or 0 if it never was.
func (w *guestWatch) readyFor() time.Duration {
	select {
	case at := <-w.readyAt:
		return max(time.Since(at), 1)
	default:
		return 0
	}
}
