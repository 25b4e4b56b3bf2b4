package daemon

import (
	"slices"
	"syscall"

	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A confinement is whether crosvm runs without root's rights. A phone may not let it be started so,
// or it may fail in a way that cannot be told from others: then it is tried the other way at the
// next start.
type confinement struct {
	android bool   // elsewhere, the user may be a person's
	refused string // why crosvm runs as root on a phone; empty: it does not
}

// user is whom crosvm of a machine runs as; nil: root.
func (c *confinement) user(name string) *crosvm.User {
	if !c.android || c.refused != "" {
		return nil
	}
	return crosvm.UserFor(name)
}

// gaveUp are the signals by which a program ends that cannot continue.
var gaveUp = []syscall.Signal{syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGSYS}

// learn takes notice of a crosvm that ended before its guest said anything.
func (c *confinement) learn(exit crosvm.Exit) {
	switch {
	case !c.android || exit.Kind != crosvm.Failed && !slices.Contains(gaveUp, exit.Signal):
	case c.refused != "":
		c.refused = ""
	default:
		c.refused = exit.String()
	}
}
