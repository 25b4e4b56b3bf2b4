package databases

import (
	"context"
	"fmt"
	"io"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
)

// Upgrade runs the operation do on a running machine's databases, see guestspec.StepUpgrade.
// progress is called with the guest's progress messages.
func Upgrade(ctx context.Context, s *fleet.Site, name, do string, progress func(string)) (*backup.Upgraded, error) {
	events, answers := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		c := device.Command{Stdout: answers, Limit: device.NoLimit, Idle: idle}
		err := s.Runner(ctx, c, "upgrade", name, "--do", do, "--json")
		answers.Close()
		ended <- err
	}()
	last, fault := follow(events, progress)
	events.CloseWithError(fault)
	if err := <-ended; err != nil {
		return nil, fmt.Errorf("%s %s: %w", do, name, err)
	}
	if fault != nil {
		return nil, fmt.Errorf("%s %s: %w", do, name, fault)
	}
	return last.Upgraded, nil
}
