package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Protocol is what the Upgrade header of a request for a session names.
const Protocol = "sov-session/1"

// A Size is a terminal's.
type Size struct {
	Rows    uint16 `json:"rows"`
	Columns uint16 `json:"columns"`
}

// A Start says what the guest is to run.
type Start struct {
	Command  []string          `json:"command,omitempty"`  // empty: the guest's shell. A name without a slash is looked up in PATH
	User     string            `json:"user,omitempty"`     // of the guest; empty: root
	Terminal *Size             `json:"terminal,omitempty"` // nil: pipes in place of a terminal
	Env      map[string]string `json:"env,omitempty"`      // added to the guest's own; never logged
	Caller   string            `json:"caller,omitempty"`   // who asks, as the caller says it: for the guest's log
	Pause    string            `json:"pause,omitempty"`    // a service that is stopped while the session lasts
}

// DefaultUser is the user that a session runs as unless it says another.
const DefaultUser = "root"

// maxCaller bounds Start.Caller, in bytes.
const maxCaller = 200

var (
	userForm = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	envForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
)

// ParseStart reads the payload of a Begin frame and fills in what it leaves out.
func ParseStart(text []byte) (Start, error) {
	var s Start
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("begin a session: %w", err)
	}
	if s.User == "" {
		s.User = DefaultUser
	}
	if err := s.check(); err != nil {
		return s, fmt.Errorf("begin a session: %w", err)
	}
	return s, nil
}

func (s *Start) check() error {
	if !userForm.MatchString(s.User) {
		return fmt.Errorf("user %q: not a user's name", s.User)
	}
	if len(s.Command) > 0 && s.Command[0] == "" {
		return errors.New("the command's name is empty")
	}
	for _, arg := range s.Command {
		if strings.ContainsRune(arg, 0) {
			return errors.New("an argument holds a zero byte")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if !envForm.MatchString(name) || strings.ContainsRune(s.Env[name], 0) {
			return fmt.Errorf("environment: %q cannot be set", name)
		}
	}
	if len(s.Caller) > maxCaller {
		return fmt.Errorf("the caller's name has more than %d bytes", maxCaller)
	}
	return nil
}

// An Exit is how a session ended.
type Exit struct {
	Status int    `json:"status"`          // the command's exit status; 128 and the signal's number where one killed it
	Fault  string `json:"fault,omitempty"` // why it was not started, or did not end by itself
}

// Exit statuses of a command that was not started, as shells have them (POSIX, Shell Command
// Language, 2.8.2), and what a signal's number is added to.
const (
	StatusNotExecutable = 126
	StatusNotFound      = 127
	StatusSignaled      = 128
)
