//go:build linux

package supervision

import (
	"context"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/guest/journal"
)

// watch probes a ready service until ctx is done, or until as many consecutive probes have failed
// as the specification says; then it returns the reason.
func (s *service) watch(ctx context.Context) error {
	a := s.spec.Alive
	if a == nil {
		return nil
	}
	for failures := 0; ; {
		if wait(ctx, time.Duration(a.Interval)) != nil {
			return nil
		}
		once, cancel := context.WithTimeoutCause(ctx, time.Duration(a.Timeout), fmt.Errorf("no answer within %s", a.Timeout))
		err := s.probeOnce(once, a.Ready)
		if err != nil && once.Err() != nil {
			err = context.Cause(once)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failures = 0
			continue
		}
		failures++
		s.log(journal.Warn, "its alive check failed", "error", err, "failures", failures)
		if failures >= a.Failures {
			return fmt.Errorf("its alive check failed %d times in a row: %w", failures, err)
		}
	}
}
