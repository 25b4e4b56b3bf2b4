//go:build linux

package guest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// A supervisor runs the services of a guest.
type supervisor struct {
	reaper  *process.Reaper
	console *journal.Console
	path    string            // PATH of every process
	secrets map[string]string // of the config disk
	now     func() time.Time
	spawn   spawn
	onReady func() // called once, when all are ready for the first time

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change of a state
	services []*service
	wasReady bool
}

// newSupervisor takes the services as they are described, to be started by start.
func newSupervisor(s *supervisor, specs []guestspec.Service) *supervisor {
	s.changed = make(chan struct{})
	for _, spec := range specs {
		s.services = append(s.services, newService(s, spec))
	}
	return s
}

// start lets every service run, each when those it comes after are ready.
func (s *supervisor) start() {
	for _, service := range s.services {
		s.spawn("service "+service.spec.Name, service.live)
	}
	s.reportReady() // there may be no service at all
}

// block marks all services as failed because of reason, instead of starting them.
func (s *supervisor) block(reason string) {
	for _, service := range s.services {
		service.set(guestapi.StateFailed, reason)
		close(service.gone)
	}
}

// stop stops all services, each once those that come after it have stopped.
func (s *supervisor) stop() {
	var all sync.WaitGroup
	for _, service := range s.services {
		all.Add(1)
		s.spawn("stop "+service.spec.Name, func() {
			defer all.Done()
			for _, other := range s.services {
				if slices.Contains(other.spec.After, service.spec.Name) {
					<-other.gone
				}
			}
			service.cancel(errShutdown)
			<-service.gone
		})
	}
	all.Wait()
}

// stopLimit is more than stop takes when every process can be killed.
func (s *supervisor) stopLimit() time.Duration {
	var sum time.Duration
	for _, service := range s.services {
		sum += time.Duration(service.spec.Stop.Timeout) + process.KillLimit
	}
	return sum
}

// await waits until the named services are ready, or until ctx is done.
func (s *supervisor) await(ctx context.Context, names []string) error {
	for {
		s.mu.Lock()
		changed := s.changed
		ready := true
		for _, service := range s.services {
			if slices.Contains(names, service.spec.Name) && !service.usable() {
				ready = false
			}
		}
		s.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// reportReady calls onReady when all services are ready for the first time.
func (s *supervisor) reportReady() {
	s.mu.Lock()
	first := s.allReady() && !s.wasReady
	s.wasReady = s.wasReady || first
	s.mu.Unlock()
	if first {
		s.onReady()
	}
}

// allReady reports whether all services are ready or done. The caller holds s.mu.
func (s *supervisor) allReady() bool {
	return !slices.ContainsFunc(s.services, func(service *service) bool { return !service.usable() })
}

// status returns all services' states and whether all are ready.
func (s *supervisor) status() ([]guestapi.Service, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]guestapi.Service, 0, len(s.services))
	for _, service := range s.services {
		state := service.state
		if state.State != guestapi.StateReady {
			state.LastOutput = slices.Clone(service.tail)
		}
		list = append(list, state)
	}
	return list, s.allReady()
}
