//go:build linux

package supervision

import (
	"context"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/guest/journal"
)

// change modifies the state under the lock and wakes the goroutines that wait for a change.
func (s *service) change(alter func(*guestapi.Service)) {
	s.sup.mu.Lock()
	alter(&s.state)
	close(s.sup.changed)
	s.sup.changed = make(chan struct{})
	s.sup.mu.Unlock()
}

// set enters a state without a main process.
func (s *service) set(state, reason string) {
	s.change(func(v *guestapi.Service) {
		v.State, v.Since, v.Reason, v.PID = state, s.sup.config.Now(), reason, 0
	})
}

// setStarted records the start of the main process.
func (s *service) setStarted(pid int) {
	s.log(journal.Info, "started", "pid", pid)
	s.change(func(v *guestapi.Service) {
		v.PID = pid
		if s.starts++; s.starts > 1 {
			v.Restarts++
		}
	})
}

// setReason sets the reason why the service is not ready yet.
func (s *service) setReason(reason string) {
	s.change(func(v *guestapi.Service) { v.Reason = reason })
}

// setReady enters the state ready unless ctx is done or the service has ended meanwhile, and
// reports whether it did.
func (s *service) setReady(ctx context.Context, ended <-chan struct{}) (ready bool) {
	s.change(func(v *guestapi.Service) {
		select {
		case <-ended:
			return
		default:
		}
		if ready = ctx.Err() == nil; ready {
			v.State, v.Since, v.Reason, s.fatal = guestapi.StateReady, s.sup.config.Now(), "", ""
			if v.ReadyIn == 0 {
				v.ReadyIn = s.sup.config.Uptime().Seconds()
			}
		}
	})
	if ready {
		s.log(journal.Info, "ready")
		s.sup.reportReady()
	}
	return ready
}

// setComingUp records that the service is starting. A service that crashes repeatedly is reported
// as such until it is ready.
func (s *service) setComingUp() {
	s.change(func(v *guestapi.Service) {
		v.PID, s.fatal = 0, ""
		if v.State != guestapi.StateLooping {
			v.State, v.Since, v.Reason = guestapi.StateStarting, s.sup.config.Now(), ""
		}
	})
}

// usable reports whether services after this one may start. The caller holds sup.mu.
func (s *service) usable() bool {
	return s.state.Ready()
}
