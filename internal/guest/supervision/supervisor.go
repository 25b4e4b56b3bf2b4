//go:build linux

package supervision

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

// Config configures a Supervisor.
type Config struct {
	Reaper  *process.Reaper
	Console *journal.Console
	Path    string            // PATH of every process
	Roots   []string          // as guestspec.Config lists them
	Secrets map[string]string // of the config disk
	Now     func() time.Time
	Uptime  func() time.Duration
	Spawn   func(name string, fn func()) // runs fn in a goroutine
	OnReady func()                       // called once, when all are ready for the first time
}

// A Supervisor runs the services of a guest.
type Supervisor struct {
	config Config

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change of a state
	services []*service
	wasReady bool
}

// New returns a supervisor of the services in specs. Start starts them.
func New(config Config, specs []guestspec.Service) *Supervisor {
	s := &Supervisor{config: config, changed: make(chan struct{})}
	for _, spec := range specs {
		s.services = append(s.services, newService(s, spec, specs))
	}
	return s
}

// Start starts every service after the services that it depends on are ready.
//
// It first creates all their directories: a directory that does not exist when a service starts
// cannot be hidden from it. For the same reason it writes all files with secrets now, and never
// again.
func (s *Supervisor) Start() {
	for _, service := range s.services {
		_ = service.makeDirectories() // each start of the service tries again and reports what fails
		service.writeSecrets()
	}
	for _, service := range s.services {
		s.config.Spawn("service "+service.spec.Name, service.live)
	}
	s.reportReady() // the machine may have no services
}

// Block marks all services as failed with reason, instead of starting them.
func (s *Supervisor) Block(reason string) {
	for _, service := range s.services {
		service.set(guestapi.StateFailed, reason)
		close(service.gone)
	}
}

// Stop stops all services because of cause, in reverse order of their dependencies.
func (s *Supervisor) Stop(cause error) {
	var all sync.WaitGroup
	for _, service := range s.services {
		all.Add(1)
		s.config.Spawn("stop "+service.spec.Name, func() {
			defer all.Done()
			for _, other := range s.services {
				if slices.Contains(other.spec.After, service.spec.Name) {
					<-other.gone
				}
			}
			service.cancel(cause)
			<-service.gone
		})
	}
	all.Wait()
}

// StopLimit is longer than Stop takes when every process can be killed.
func (s *Supervisor) StopLimit() time.Duration {
	var sum time.Duration
	for _, service := range s.services {
		sum += time.Duration(service.spec.Stop.Timeout) + process.KillLimit
	}
	return sum
}

// await waits until the named services are ready, or until ctx is done.
func (s *Supervisor) await(ctx context.Context, names []string) error {
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

// reportReady calls OnReady when all services are ready for the first time.
func (s *Supervisor) reportReady() {
	s.mu.Lock()
	first := s.allReady() && !s.wasReady
	s.wasReady = s.wasReady || first
	s.mu.Unlock()
	if first {
		s.config.OnReady()
	}
}

// allReady reports whether all services are ready or done. The caller holds s.mu.
func (s *Supervisor) allReady() bool {
	return !slices.ContainsFunc(s.services, func(service *service) bool { return !service.usable() })
}

// Status returns all services' states and whether all are ready.
func (s *Supervisor) Status() ([]guestapi.Service, bool) {
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
