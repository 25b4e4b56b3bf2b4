//go:build linux

package supervision

import (
	"errors"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/process"
)

func TestBackoff(t *testing.T) {
	r := guestspec.Restart{Backoff: guestspec.Duration(time.Second), MaxBackoff: guestspec.Duration(5 * time.Second)}
	for failures, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 1 << 40: 5 * time.Second} {
		if got := backoff(r, failures); got != want {
			t.Errorf("after %d failures %s, want %s", failures, got, want)
		}
	}
}

func TestPermanent(t *testing.T) {
	if permanent(nil) || permanent(errors.New("x")) || permanent(&process.ExitError{Program: "a", Status: 1 << 8}) {
		t.Error("an ordinary end counts as permanent")
	}
	if !permanent(&process.ExitError{Program: "a", Status: guestspec.ExitPermanent << 8}) {
		t.Error("exit status 78 does not count as permanent")
	}
}
