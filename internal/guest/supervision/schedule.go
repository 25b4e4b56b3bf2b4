//go:build linux

package supervision

import (
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/schedule"
	"github.com/sovereign-sql/sov/internal/guest/journal"
)

// clockLook is how often a waiting scheduled service checks the clock, which may be set meanwhile.
const clockLook = 10 * time.Second

// wall returns the wall-clock time. Without a monotonic reading, differences include the time that
// a phone slept.
func (s *service) wall() time.Time { return s.sup.config.Now().Round(0) }

// liveScheduled runs the service at its times until it must stop. With an interval, the first run
// is at boot.
func (s *service) liveScheduled() {
	times, err := schedule.Parse(s.spec.Schedule)
	if err != nil { // the specification was validated
		s.set(guestapi.StateFailed, err.Error())
		return
	}
	now := s.wall()
	next := now
	if !times.Interval() {
		next = times.Next(now)
	}
	for s.untilTime(next, times) {
		start := s.wall()
		s.log(journal.Info, "runs on schedule")
		err := s.runScheduled()
		end := s.wall()
		if s.ctx.Err() != nil {
			break
		}
		result := "exit status 0"
		if err != nil {
			result = err.Error()
			s.log(journal.Error, "its scheduled run failed", "error", err)
		}
		if next = times.Next(end); times.Interval() {
			next = times.Next(start)
		}
		s.change(func(v *guestapi.Service) {
			v.PID = 0
			v.Schedule = &guestapi.Schedule{LastStart: start, LastEnd: end, Result: result, Failed: err != nil, Next: next}
		})
	}
	s.set(guestapi.StateStopped, "")
}

// untilTime waits for a time. It returns false if the service must stop. If the clock is set back
// by more than the schedule's step, it waits for the time that is now next.
func (s *service) untilTime(next time.Time, times *schedule.Schedule) bool {
	for shown := (time.Time{}); ; {
		now := s.wall()
		if first := times.Next(now); first.Before(next) {
			next = first
		}
		if !next.Equal(shown) {
			shown = next
			s.change(func(v *guestapi.Service) {
				if v.State != guestapi.StateScheduled {
					v.State, v.Since, v.Reason = guestapi.StateScheduled, now, ""
				}
				told := guestapi.Schedule{} // a new value: a status request may be reading the old one
				if v.Schedule != nil {
					told = *v.Schedule
				}
				told.Next = next
				v.Schedule = &told
			})
			s.sup.reportReady()
		}
		wait := next.Sub(now)
		if wait <= 0 {
			return s.ctx.Err() == nil
		}
		select {
		case <-time.After(min(wait, clockLook)):
		case <-s.ctx.Done():
			return false
		}
	}
}

// runScheduled performs one run of a scheduled service, from its preparation to the end of all its
// processes.
func (s *service) runScheduled() error {
	_, leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	s.change(func(v *guestapi.Service) {
		if v.State != guestapi.StateScheduled { // it was paused
			v.State, v.Since, v.Reason = guestapi.StateScheduled, s.sup.config.Now(), ""
		}
	})
	if err := s.prepare(); err != nil {
		return err
	}
	t, err := s.command(s.spec.Command, s.spec.User).Start(s.sup.config.Reaper)
	if err != nil {
		return err
	}
	s.change(func(v *guestapi.Service) { v.PID = t.PID })
	select {
	case <-t.Ended:
	case <-s.ctx.Done():
		s.stop(t)
	}
	t.CleanUp()
	return s.ended(t)
}
