package main

import (
	"strings"
	"testing"
)

// TestNothingRunsHere verifies that a command for a local machine that does not run reports how to
// start it.
func TestNothingRunsHere(t *testing.T) {
	t.Setenv("SOV_STATE_DIR", t.TempDir())
	for _, args := range [][]string{
		{"stop", "mine", "--local"},
		{"status", "mine", "--local"},
		{"shell", "mine", "--local"},
		{"exec", "mine", "--local", "--", "true"},
		{"psql", "mine", "--local"},
		{"stop", "mine", "--state", t.TempDir()},
	} {
		_, stderr, status := cli(t, args...)
		if status != exitFailed || stderr != "sov: mine does not run on this computer: `sov run mine` starts it\n" {
			t.Errorf("sov %s: status %d, %q", strings.Join(args, " "), status, stderr)
		}
	}
}
