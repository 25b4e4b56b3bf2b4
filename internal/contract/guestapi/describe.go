package guestapi

import (
	"slices"
	"strings"
)

// Describe describes the services in one of the states: with the reason and, if a service has
// ended, its last line of output. It returns "" if there are none.
func (s *Status) Describe(states ...string) string {
	var lines []string
	for _, service := range s.Services {
		if slices.Contains(states, service.State) {
			lines = append(lines, service.Describe())
		}
	}
	return strings.Join(lines, "; ")
}

// String describes the file's content.
func (a SettingsAside) String() string {
	if len(a.Settings) == 0 {
		return "a damaged file, kept as " + a.File
	}
	return strings.Join(a.Settings, ", ") + ", kept in " + a.File
}

// Summary returns the service's state and, for a scheduled service, the result of the last run.
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

// scheduleTime is the format of times of a schedule, which are UTC.
const scheduleTime = "2006-01-02 15:04 UTC"

// Describe describes the service like Status.Describe.
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

// LastLine returns the last line of the service's output, or "" if Reason already quotes a line.
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
