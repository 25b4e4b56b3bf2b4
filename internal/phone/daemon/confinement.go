package daemon

import (
	"slices"
	"syscall"

	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A confinement decides whether crosvm runs without root's rights. A phone may refuse the start, or
// crosvm may fail for an unclear reason; then the next start tries the other way.
type confinement struct {
	android bool   // on other systems the user ID may belong to a real user
	refused string // why crosvm runs as root on a phone; empty if it does not
}

// user returns the user for a machine's crosvm; nil means root.
func (c *confinement) user(name string) *crosvm.User {
	if !c.android || c.refused != "" {
		return nil
	}
	return crosvm.UserFor(name)
}

// gaveUp are the signals that end a crashing program.
var gaveUp = []syscall.Signal{syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGSYS}

// learn handles a crosvm that ended before its guest printed anything.
func (c *confinement) learn(exit crosvm.Exit) {
	switch {
	case !c.android || exit.Kind != crosvm.Failed && !slices.Contains(gaveUp, exit.Signal):
	case c.refused != "":
		c.refused = ""
	default:
		c.refused = exit.String()
	}
}
