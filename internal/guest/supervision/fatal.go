//go:build linux

package supervision

import (
	"errors"
	"regexp"
	"strings"

	"github.com/sovereign-sql/sov/internal/guest/process"
)

// fatalLine matches a server's line with the reason for its end. The prefix comes from
// log_line_prefix, which is empty for the server's own processes by default.
var fatalLine = regexp.MustCompile(`(?:^|[\]: ])((?:FATAL|PANIC):  .*)`)

// sessionPrefix matches the prefix of lines of a client's session (log_line_prefix in the recipes):
// a client's FATAL ends its session, not the server.
var sessionPrefix = regexp.MustCompile(`^[^\s:]+@[^\s:]* `)

// configErrors is the end of PostgreSQL's message for faulty settings (ProcessConfigFile in
// src/backend/utils/misc/guc.c). The previous lines name them.
const configErrors = " contains errors"

// noteFatal stores a PostgreSQL server's reason for its end. The caller holds sup.mu.
func (s *service) noteFatal(line string) {
	if s.spec.Ready.Postgres == "" || sessionPrefix.MatchString(line) {
		return
	}
	if m := fatalLine.FindStringSubmatch(line); m != nil {
		s.fatal = m[1]
		if n := len(s.tail); strings.HasSuffix(line, configErrors) && n > 0 && strings.Contains(s.tail[n-1], "LOG:  ") {
			s.fatal += ": " + s.tail[n-1]
		}
	}
}

// reason returns why a run of the service ended with err: the server's own message, if it printed
// one.
func (s *service) reason(err error) string {
	var exit *process.ExitError
	s.sup.mu.Lock()
	defer s.sup.mu.Unlock()
	switch {
	case err == nil:
		return "exit status 0"
	case s.fatal != "" && errors.As(err, &exit) && exit.Status.Exited():
		return s.fatal
	}
	return err.Error()
}
