package install

import (
	"context"
	"strings"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/push"
)

// Removable reports whether a phone has any files of a machine, and makes sure that it has a
// sov-runner to remove them. If an earlier removal kept the machine's data but removed sov-runner,
// it installs runner, which removes itself again.
func Removable(ctx context.Context, s *fleet.Site, name string, runner push.Runner) (bool, error) {
	vm, err := s.Root().VM(name)
	if err != nil {
		return false, err
	}
	const look = `if [ -e "$1" ]; then echo runner; elif [ -e "$2" ] || [ -e "$3" ]; then echo data; else echo nothing; fi`
	found, err := device.Output(ctx, s, "sh", "-c", look, "sh", s.Root().Runner(), vm.Dir(), vm.Secrets())
	if err != nil {
		return false, err
	}
	switch strings.TrimSpace(string(found)) {
	case "nothing":
		return false, nil
	case "data":
		_, err = push.EnsureRunner(ctx, s, runner)
	}
	return true, err
}
