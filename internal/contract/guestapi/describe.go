package guestapi

import (
	"slices"
	"strings"
)

// Describe says how those services are whose state is one of states, and why, for people: with the
// reason and, where a service has ended by itself, the last line that it printed. It is empty where
// there are none.
func (s *Status) Describe(states ...string) string {
	var lines []string
	for _, service := range s.Services {
		if slices.Contains(states, service.State) {
			lines = append(lines, service.Describe())
		}
	}
	return strings.Join(lines, "; ")
}

// String says what the file holds, for people.
func (a SettingsAside) String() string {
	if len(a.Settings) == 0 {
		return "a damaged file, kept as " + a.File
	}
	return strings.Join(a.Settings, ", ") + ", kept in " + a.File
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
	if last := s.LastLine(); last != "" && (s.State == StateBackoff || s.State == StateLooping) {
		line += ": " + last
	}
	return line
}

// LastLine is the last line that the service printed, unless Reason quotes a line of it already.
func (s Service) LastLine() string {
	last := ""
	for _, line := range s.LastOutput {
		if line != "" && (strings.Contains(s.Reason, line) || strings.HasSuffix(line, s.Reason) && s.Reason != "") {
			return ""
		}
		last = line
	}
	return last
}
