//go:build linux

package supervision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// tailLines is how many lines of a service's output its status shows.
const tailLines = 10

// A service is one of the guest's services, across all its runs.
type service struct {
	sup     *Supervisor
	spec    guestspec.Service
	confine *process.Confinement
	env     map[string]string // including secrets
	fault   string            // why it cannot be started in this boot; set before live

	ctx    context.Context // done when the service must stop
	cancel context.CancelCauseFunc
	gone   chan struct{} // closed when the service will not run again
	pause  pause

	// Guarded by sup.mu.
	state  guestapi.Service
	task   *process.Task // the main process; nil if it is not running
	starts int
	tail   []string
	fatal  string // the last reason for its end that a starting PostgreSQL server printed
}

// newService returns the service of spec, which is one of all.
func newService(sup *Supervisor, spec guestspec.Service, all []guestspec.Service) *service {
	s := &service{sup: sup, spec: spec, gone: make(chan struct{}), pause: newPause()}
	s.env, s.fault = secretEnvironment(spec, sup.config.Secrets)
	s.confine = &process.Confinement{
		Write: spec.Writable(), Hidden: append(spec.Hidden(all, sup.config.Roots), append(sup.restoreDirs(all), sup.certificateDirs(spec, all)...)...), Devices: spec.Rights.Devices,
		Capabilities: spec.Rights.Capabilities, Files: spec.Limits.Files, Rlimits: spec.Limits.Rlimits,
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.state = guestapi.Service{Name: spec.Name, State: guestapi.StateWaiting, Since: sup.config.Now(), Backup: spec.Backup != nil && !spec.Backup.Asked}
	return s
}

// live runs the service until it will not run again.
func (s *service) live() {
	defer close(s.gone)
	if s.fault != "" {
		s.log(journal.Error, "cannot be started", "error", s.fault)
		s.set(guestapi.StateFailed, s.fault)
		return
	}
	if err := s.sup.await(s.ctx, s.spec.After); err != nil {
		s.set(guestapi.StateStopped, "")
		return
	}
	if reason := s.lacking(); reason != "" {
		s.log(journal.Info, "is off", "reason", reason)
		s.set(guestapi.StateOff, reason)
		s.sup.reportReady()
		return
	}
	if s.spec.Schedule != "" {
		s.liveScheduled()
		return
	}
	for s.ctx.Err() == nil {
		err := s.runOnce()
		if s.ctx.Err() != nil {
			break
		}
		if errors.Is(err, errPaused) {
			continue
		}
		if !s.again(err) {
			return
		}
		select {
		case <-time.After(s.countFailure(err)):
		case <-s.ctx.Done():
		}
	}
	s.set(guestapi.StateStopped, "")
}

// lacking returns why the service cannot be started in this boot, or "".
func (s *service) lacking() string {
	c := s.spec.StartIf
	if c == nil {
		return ""
	}
	var missing []string
	if c.Secret != "" {
		if _, ok := s.sup.config.Secrets[c.Secret]; ok {
			return ""
		}
		missing = append(missing, "no secret "+c.Secret+" on the config disk")
	}
	if c.File != "" {
		switch st, err := os.Stat(c.File); {
		case err != nil:
			missing = append(missing, "no "+c.File)
		case st.Size() > 0:
			return ""
		default:
			missing = append(missing, "nothing in "+c.File+", which is empty")
		}
	}
	return "there is " + strings.Join(missing, " and ")
}

// again decides whether a service that ended with err (nil: exit status 0) runs again, and sets its
// final state if not.
func (s *service) again(err error) bool {
	policy := s.spec.Restart.Policy
	switch {
	case permanent(err):
		reason := s.lastLine(err.Error())
		s.log(journal.Error, "failed and is not started again", "error", reason)
		s.set(guestapi.StateFailed, reason)
		return false
	case policy == guestspec.Always, policy == guestspec.OnFailure && err != nil:
		return true
	case err != nil:
		s.log(journal.Error, "failed", "error", err)
		s.set(guestapi.StateFailed, err.Error())
		return false
	case s.spec.Ready.Checks():
		// It was ready and does not serve any more.
		const reason = "it has ended, and its restart policy does not restart it"
		s.log(journal.Error, reason)
		s.set(guestapi.StateFailed, reason)
		return false
	default:
		s.log(journal.Info, "done")
		s.set(guestapi.StateDone, "")
		s.sup.reportReady()
		return false
	}
}

// countFailure records a failure and returns the pause before the next start.
func (s *service) countFailure(err error) time.Duration {
	reason := s.reason(err)
	r := s.spec.Restart
	s.sup.mu.Lock()
	s.forgive(&s.state)
	s.state.Failures++
	failures := s.state.Failures
	s.sup.mu.Unlock()
	delay := backoff(r, failures)
	s.log(journal.Warn, "ended", "reason", reason, "failures", failures, "next_start_in", delay)
	if failures == r.Limit {
		s.log(journal.Error, "crashes again and again; it is still tried", "reason", reason)
	}
	state := guestapi.StateBackoff
	if failures >= r.Limit {
		state = guestapi.StateLooping
	}
	s.set(state, reason)
	return delay
}

// forgive resets the failures of a service that has been ready for long enough. The caller holds
// sup.mu.
func (s *service) forgive(v *guestapi.Service) {
	if v.State == guestapi.StateReady && s.sup.config.Now().Sub(v.Since) >= time.Duration(s.spec.Restart.Reset) {
		v.Failures = 0
	}
}

// permanent reports whether err says that a retry cannot help.
func permanent(err error) bool {
	var e *process.ExitError
	return errors.As(err, &e) && e.Status.ExitStatus() == guestspec.ExitPermanent
}

// backoff doubles r.Backoff with each consecutive failure, up to r.MaxBackoff.
func backoff(r guestspec.Restart, failures int) time.Duration {
	d := time.Duration(r.Backoff)
	for ; failures > 1 && d < time.Duration(r.MaxBackoff); failures-- {
		d *= 2
	}
	return min(d, time.Duration(r.MaxBackoff))
}

// runOnce performs one run of the service, from its preparation to the end of all its processes.
func (s *service) runOnce() error {
	asked, leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	if isClosed(asked) {
		return errPaused
	}
	s.setComingUp()
	if err := s.prepare(); err != nil {
		return err
	}
	if isClosed(asked) {
		return errPaused
	}
	t, err := s.command(s.spec.Command, s.spec.User).Start(s.sup.config.Reaper)
	if err != nil {
		return err
	}
	s.setStarted(t.PID)
	s.hold(t)
	defer s.hold(nil)
	ctx, cancel := context.WithCancelCause(s.ctx)
	ready, sick := make(chan struct{}), make(chan error, 1)
	s.sup.config.Spawn("readiness of "+s.spec.Name, func() {
		defer close(ready)
		if !s.becomeReady(ctx, t.Ended) {
			return
		}
		if err := s.watch(ctx); err != nil {
			sick <- err
		}
	})
	var unwell error
	select {
	case <-t.Ended:
	case <-s.ctx.Done():
		s.stop(t)
	case <-asked:
		unwell = errPaused
		s.change(func(*guestapi.Service) { s.starts-- }) // the next one is not a restart
		s.set(guestapi.StateStopped, pauseReason)
		s.stop(t)
	case unwell = <-sick:
		s.change(s.forgive)
		s.set(guestapi.StateBackoff, unwell.Error()) // it is not ready while it is stopped
		s.stop(t)
	}
	cancel(errors.New("the service ended"))
	<-ready
	t.CleanUp()
	if unwell != nil && s.ctx.Err() == nil {
		return unwell
	}
	return s.ended(t)
}

// stop ends a running service as its specification says.
func (s *service) stop(t *process.Task) {
	if !t.Stop(unix.SignalNum(s.spec.Stop.Signal), time.Duration(s.spec.Stop.Timeout)) {
		s.log(journal.Error, "cannot be killed and is left behind", "pid", t.PID)
	}
}

// ended logs how t ended if it was stopped; otherwise it returns the error.
func (s *service) ended(t *process.Task) error {
	select {
	case <-t.Ended:
	default:
		return context.Cause(s.ctx) // it cannot be killed
	}
	if s.ctx.Err() != nil {
		s.log(journal.Info, "stopped", "end", t.Outcome())
		return nil
	}
	return t.Err()
}

// prepare prepares the start of the service.
func (s *service) prepare() error {
	if err := s.makeDirectories(); err != nil {
		return err
	}
	for _, step := range s.spec.Prepare {
		if err := s.step(s.ctx, step); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	for _, t := range s.spec.Tmpfs {
		if err := filesystem.MountTmpfs(t); err != nil {
			return err
		}
	}
	return nil
}

// makeDirectories creates the service's directories.
func (s *service) makeDirectories() error {
	for _, d := range s.spec.Directories {
		if err := filesystem.MakeDirectory(d); err != nil {
			return err
		}
	}
	return nil
}

// becomeReady waits until the service is ready, runs the steps after the start, logs the state and
// reports whether the service is ready.
func (s *service) becomeReady(ctx context.Context, ended <-chan struct{}) bool {
	late := time.AfterFunc(time.Duration(s.spec.Ready.Timeout), func() {
		s.log(journal.Warn, "is not ready yet", "after", s.spec.Ready.Timeout)
		s.setReason(fmt.Sprintf("not ready %s after its start", s.spec.Ready.Timeout))
	})
	defer late.Stop()
	if err := s.probe(ctx); err != nil {
		return false
	}
	for _, step := range s.spec.PostReady {
		for failures := 1; ; failures++ {
			err := s.step(ctx, step)
			if ctx.Err() != nil {
				return false
			}
			if err == nil {
				break
			}
			s.log(journal.Warn, "a step after its start failed", "error", err)
			s.setReason("after its start: " + err.Error())
			select {
			case <-time.After(backoff(s.spec.Restart, failures)):
			case <-ctx.Done():
				return false
			}
		}
	}
	if s.isTask() {
		return false // it is done when it has ended successfully
	}
	return s.setReady(ctx, ended)
}

// isTask reports whether the service is done when it ends. Services after it start only then.
func (s *service) isTask() bool {
	return s.spec.Restart.Policy == guestspec.Never && !s.spec.Ready.Checks()
}

// step runs one step to its end.
func (s *service) step(ctx context.Context, step guestspec.Step) error {
	c := s.command(step.Command, step.User)
	if step.User != s.spec.User {
		c.Group = ""
	}
	if step.Unconfined {
		c.Confine, c.Limits = nil, guestspec.Limits{}
	}
	if step.Secret != "" {
		secret, ok := s.sup.config.Secrets[step.Secret]
		if !ok && !step.SecretOptional {
			s.log(journal.Warn, "a step is skipped: its secret is not on the config disk", "secret", step.Secret)
			return nil
		}
		c.Stdin = []byte(secret)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(step.Timeout), fmt.Errorf("it took longer than %s", step.Timeout))
	defer cancel()
	last := ""
	c.Line = func(line string) {
		last = journal.Redact(s.sup.config.Secrets, line)
		s.printed(line)
	}
	err := c.Run(ctx, s.sup.config.Reaper)
	if err != nil && last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	return err
}

// command returns the command that runs argv for this service.
func (s *service) command(argv []string, user string) process.Command {
	return process.Command{
		Argv: argv, User: user, Group: s.spec.Group, Path: s.sup.config.Path, Env: s.env, Dir: s.spec.Dir,
		Name: s.spec.Name, OOMScoreAdj: s.spec.OOMScoreAdj, Confine: s.confine, Limits: s.spec.Limits, Line: s.printed,
	}
}

// printed handles one line of the service's output.
func (s *service) printed(line string) {
	line = journal.Redact(s.sup.config.Secrets, line)
	s.sup.config.Console.Output(s.spec.Name, line)
	s.sup.mu.Lock()
	defer s.sup.mu.Unlock()
	s.noteFatal(line)
	if len(s.tail) == tailLines {
		s.tail = append(s.tail[:0], s.tail[1:]...)
	}
	s.tail = append(s.tail, line)
}

// lastLine returns the last line that the service printed, or else what.
func (s *service) lastLine(what string) string {
	s.sup.mu.Lock()
	defer s.sup.mu.Unlock()
	if len(s.tail) == 0 {
		return what
	}
	return s.tail[len(s.tail)-1]
}

func (s *service) log(level, text string, attrs ...any) {
	s.sup.config.Console.Log(level, s.spec.Name, text, attrs...)
}
