//go:build linux

package supervision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/journal"
)

// errPaused is the result of a run of a service that Pause ended. It is not a failure.
var errPaused = errors.New("the service is paused")

// pauseReason is what the status shows of a paused service.
const pauseReason = "stopped while its data are saved or restored; it is started again then"

// A pause prevents a service from running.
type pause struct {
	// life is held by the owner of the service's data: a run of the service, or the caller that has
	// paused it.
	life chan struct{}
	// asked is closed while a caller waits for life, and replaced when the service may run again.
	// Guarded by sup.mu.
	asked chan struct{}
}

func newPause() pause { return pause{life: make(chan struct{}, 1), asked: make(chan struct{})} }

// enter begins a run of the service when it is not paused. leave ends it. asked is closed when the
// service must pause.
func (s *service) enter() (asked <-chan struct{}, leave func(), err error) {
	leave = func() { <-s.pause.life }
	select {
	case s.pause.life <- struct{}{}:
	default:
		s.set(guestapi.StateStopped, pauseReason)
		select {
		case s.pause.life <- struct{}{}:
		case <-s.ctx.Done():
			return nil, nil, context.Cause(s.ctx)
		}
	}
	s.sup.mu.Lock()
	defer s.sup.mu.Unlock()
	return s.pause.asked, leave, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Pause stops a service as its specification says, waits until it has ended, and prevents its start
// until resume is called. Further calls of resume do nothing. A scheduled run is not stopped: Pause
// waits for its end. Only one caller may pause a service at a time.
func (s *Supervisor) Pause(ctx context.Context, name string) (resume func(), err error) {
	service := s.find(name)
	if service == nil {
		return nil, fmt.Errorf("there is no service %s", name)
	}
	s.mu.Lock()
	close(service.pause.asked)
	s.mu.Unlock()
	forget := func() {
		s.mu.Lock()
		service.pause.asked = make(chan struct{})
		s.mu.Unlock()
	}
	select {
	case service.pause.life <- struct{}{}:
	case <-ctx.Done():
		forget()
		return nil, fmt.Errorf("wait until service %s has stopped: %w", name, context.Cause(ctx))
	}
	service.log(journal.Info, "paused")
	paused := true
	return func() {
		if !paused {
			return
		}
		paused = false
		forget()
		<-service.pause.life
		service.log(journal.Info, "may run again")
	}, nil
}

func (s *Supervisor) find(name string) *service {
	for _, service := range s.services {
		if service.spec.Name == name {
			return service
		}
	}
	return nil
}

// Await waits until services that come after the named one may start.
func (s *Supervisor) Await(ctx context.Context, name string) error {
	return s.await(ctx, []string{name})
}

// Repeat runs the steps after a service's start again.
func (s *Supervisor) Repeat(ctx context.Context, name string) error {
	service := s.find(name)
	if service == nil {
		return fmt.Errorf("there is no service %s", name)
	}
	for _, step := range service.spec.PostReady {
		if err := service.step(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// Run runs a program to its end as a service's user, confined as the service is. Its standard error
// goes to the service's log, and without out also its standard output. in and out may be nil. If
// write is set, the program may write only that directory, which is hidden from the service.
func (s *Supervisor) Run(ctx context.Context, name string, argv []string, in, out *os.File, write string) error {
	service := s.find(name)
	if service == nil {
		return fmt.Errorf("there is no service %s", name)
	}
	if service.fault != "" {
		return errors.New(service.fault)
	}
	c := service.command(argv, service.spec.User)
	c.In, c.Out = in, out
	if write != "" {
		confine := *service.confine
		confine.Write = []string{write}
		confine.Hidden = slices.DeleteFunc(slices.Clone(confine.Hidden), func(dir string) bool { return strings.HasPrefix(write, dir+"/") })
		c.Confine = &confine
	}
	var last string
	c.Line = func(line string) {
		last = journal.Redact(s.config.Secrets, line)
		service.printed(line)
	}
	err := c.Run(ctx, s.config.Reaper)
	if err != nil && last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	return err
}

// restoreDirs returns the directories for restores, if any service has a backup. They are hidden
// from services.
func (s *Supervisor) restoreDirs(all []guestspec.Service) (dirs []string) {
	if !slices.ContainsFunc(all, func(service guestspec.Service) bool { return service.Backup != nil }) {
		return nil
	}
	for _, root := range s.config.Roots {
		dirs = append(dirs, filepath.Join(root, guestspec.RestoreDir))
	}
	return dirs
}
