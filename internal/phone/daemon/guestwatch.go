package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A guestWatch asks the guest how it is, and tells the state.
type guestWatch struct {
	daemon   *Daemon
	machine  *run
	artifact *artifact
	near     *neighbourhood // nil: it has no names to learn
	readyAt  chan time.Time // holds when the guest was first ready
	ready    chan struct{}  // closed then
	failed   chan struct{}  // closed when a service has failed for good before that

	answered atomic.Bool // the guest has, once
	stopping atomic.Bool // the guest has said that it shuts down
}

// end is how crosvm ended, as the guest has announced it.
func (w *guestWatch) end(exit crosvm.Exit) crosvm.Exit {
	exit.Announced = w.stopping.Load()
	return exit
}

func newGuestWatch(d *Daemon, r *run, a *artifact, near *neighbourhood) *guestWatch {
	return &guestWatch{daemon: d, machine: r, artifact: a, near: near, readyAt: make(chan time.Time, 1), ready: make(chan struct{}), failed: make(chan struct{})}
}

// How often the guest is asked: often while it may become ready at any moment, so that
// no caller waits for long, and rarely afterwards.
const (
	bootPoll  = 200 * time.Millisecond
	readyPoll = 5 * time.Second
	// A question that was sent before crosvm had the interface open is lost, and TCP repeats it
	// after a second: the first ones are given up sooner.
	firstPatience = 100 * time.Millisecond
)

func (w *guestWatch) run(ctx context.Context) {
	late := time.Now().Add(w.artifact.spec.Ready.Timeout())
	answered, wasReady, hasFailed := false, false, false
	var corrected time.Time // the guest's clock, last
	for patience := firstPatience; ; {
		asked := time.Now()
		asking, cancel := context.WithTimeout(ctx, patience)
		status, err := w.machine.guest.Status(asking)
		cancel()
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
			// The guest has read its config disk: what is secret in it need not be there any
			// longer.
			if err := w.machine.config.forget(); err != nil {
				w.daemon.log(err.Error())
			}
		}
		if err == nil && w.near != nil {
			w.near.tell(ctx)
		}
		if err == nil {
			if err := noteNode(w.daemon.vm, status.Tailnet.Node()); err != nil {
				w.daemon.log(err.Error())
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
		if err == nil && !wasReady && !hasFailed && status.Describe(guestapi.StateFailed) != "" {
			hasFailed = true
			close(w.failed)
		}
		if patience = min(2*patience, guestPatience); answered {
			patience = guestPatience // one that is busy is not to be taken for deaf
		}
		pause := bootPoll
		if isLate || err == nil && status.Ready {
			pause = readyPoll
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// tell makes the state say what the guest said, where that is something else than before.
func (w *guestWatch) tell(status *guestapi.Status, fault error, wasReady, late bool) {
	phase, reason := runnerapi.Booting, ""
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
	if now.Phase == phase && now.Reason == reason {
		return
	}
	w.daemon.state.change(func(s *runnerapi.State) {
		if s.Phase == runnerapi.Stopping {
			return
		}
		if phase == runnerapi.Ready && s.ReadyAt.IsZero() {
			s.ReadyAt = time.Now().UTC()
		}
		s.Phase, s.Reason = phase, reason
	})
}

// readyFor is how long ago the guest was first ready, 0 if it never was.
func (w *guestWatch) readyFor() time.Duration {
	select {
	case at := <-w.readyAt:
		return max(time.Since(at), 1)
	default:
		return 0
	}
}
