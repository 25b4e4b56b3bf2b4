//go:build linux

package supervision

import (
	"errors"
	"syscall"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

// TestReason: reason returns the server's fatal error from the lines that the server printed.
func TestReason(t *testing.T) {
	exited := &process.ExitError{Status: 1 << 8}
	killed := &process.ExitError{Status: syscall.WaitStatus(9)}
	for name, tt := range map[string]struct {
		printed []string
		err     error
		want    string
	}{
		"a line":              {[]string{"LOG:  starting", "FATAL:  could not map anonymous shared memory: Cannot allocate memory", "HINT:  less", "LOG:  database system is shut down"}, exited, "FATAL:  could not map anonymous shared memory: Cannot allocate memory"},
		"the last of several": {[]string{"FATAL:  one", "PANIC:  two", "LOG:  x"}, exited, "PANIC:  two"},
		"another prefix":      {[]string{"2026-11-27 06:45:49.967 GMT [3391] FATAL:  no space"}, exited, "FATAL:  no space"},
		"faults of settings": {[]string{`LOG:  invalid value for parameter "shared_buffers": "x"`, `FATAL:  configuration file "/data/postgres/postgresql.auto.conf" contains errors`}, exited,
			`FATAL:  configuration file "/data/postgres/postgresql.auto.conf" contains errors: LOG:  invalid value for parameter "shared_buffers": "x"`},
		"a client's":     {[]string{"FATAL:  no room", `app@shop FATAL:  password authentication failed for user "app"`}, exited, "FATAL:  no room"},
		"words":          {[]string{"LOG:  it is FATAL: to say so"}, exited, exited.Error()},
		"none":           {[]string{"LOG:  starting"}, exited, exited.Error()},
		"it was killed":  {[]string{"FATAL:  no room"}, killed, killed.Error()},
		"it was stopped": {[]string{"FATAL:  no room"}, errors.New("its alive check failed"), "its alive check failed"},
		"it went well":   {nil, nil, "exit status 0"},
	} {
		s := &service{sup: &Supervisor{}, spec: guestspec.Service{Ready: guestspec.Ready{Postgres: "/run/x"}}}
		for _, line := range tt.printed {
			s.noteFatal(line)
			s.tail = append(s.tail, line)
		}
		if got := s.reason(tt.err); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	other := &service{sup: &Supervisor{}}
	other.noteFatal("FATAL:  not a server's")
	if got := other.reason(exited); got != exited.Error() {
		t.Errorf("a service that is no PostgreSQL: %q", got)
	}
}
