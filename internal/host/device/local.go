package device

import (
	"context"
	"os/exec"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Local returns this computer as a phone, with everything below root, which is also its name.
// command creates the process of a command; tests use it to enter a simulated phone; nil means
// exec.CommandContext.
func Local(root phonepath.Root, command func(ctx context.Context, argv ...string) *exec.Cmd) Phone {
	if command == nil {
		command = func(ctx context.Context, argv ...string) *exec.Cmd {
			return exec.CommandContext(ctx, argv[0], argv[1:]...)
		}
	}
	return &link{
		name: string(root), root: root,
		client: func(ctx context.Context, script string, _ bool) *exec.Cmd {
			return command(ctx, "/bin/sh", "-c", script)
		},
		explain: func(said string) string { return said },
	}
}
