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
			lines = append(lines, service.describe())
		}
	}
	return strings.Join(lines, "; ")
}

func (s Service) describe() string {
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
