package guestapi

import (
	"slices"
	"strings"
)

// Describe says how those services are whose state is one of states, and why, for people: with the reason and, where a
// service has ended by itself, the last line that it printed. It is empty where there are none.
func (s *Status) Describe(states ...string) string {
	var lines []string
	for _, service := range s.Services {
		if slices.Contains(states, service.State) {
			lines = append(lines, service.Describe())
		}
	}
	return strings.Join(lines, "; ")
}

// Summary is the service's state and, where it runs at its times, how it ran last.
func (s Service) Summary() string {
	text := s.State
	if s.Schedule == nil {
		return text
	}
	switch {
	case s.PID != 0:
		text += ", runs now"
	case s.Schedule.LastEnd.IsZero():
		text += ", has not run since boot"
	default:
		text += ", last run " + s.Schedule.LastStart.UTC().Format(scheduleTime) + ": " + s.Schedule.Result
	}
	return text + ", next " + s.Schedule.Next.UTC().Format(scheduleTime)
}

// scheduleTime is how times of a schedule, which are UTC, are printed.
const scheduleTime = "2006-01-02 15:04 UTC"

// Describe says how the service is and why, as Status.Describe does.
func (s Service) Describe() string {
	line := s.Name + " is " + s.State
	switch s.State {
	case StateBackoff:
		line = s.Name + " has ended and will be started again"
	case StateLooping:
		line = s.Name + " ends again and again"
	}
	if s.Reason != "" {
		line += ": " + s.Reason
	}
	if n := len(s.LastOutput); n > 0 && (s.State == StateBackoff || s.State == StateLooping) {
		line += ": " + s.LastOutput[n-1]
	}
	return line
}
