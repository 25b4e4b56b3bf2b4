//go:build linux

package supervision

import (
	"errors"
	"regexp"
	"strings"

	"github.com/sovereign-sql/sov/internal/guest/process"
)

// fatalLine matches a server's line about what ends it. What stands before it comes from
// log_line_prefix, which is empty for the server's own processes unless somebody sets another.
var fatalLine = regexp.MustCompile(`(?:^|[\]: ])((?:FATAL|PANIC):  .*)`)

// sessionPrefix is what the recipes' log_line_prefix puts before the lines of a client's session: a
// client's FATAL ends its session and not the server.
var sessionPrefix = regexp.MustCompile(`^[^\s:]+@[^\s:]* `)

// configErrors is how PostgreSQL ends a start for faults of its settings (ProcessConfigFile in
// src/backend/utils/misc/guc.c). The lines before it name them.
const configErrors = " contains errors"

// noteFatal keeps the reason that a PostgreSQL server gives for its end. The caller holds sup.mu.
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

// reason is why a life of the service ended with err: the server's own word, where it gave one.
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
