package device

import (
	"context"
	"os/exec"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// Local returns this computer as a phone, with everything below root; its name is root's. command
// makes a process of a program's arguments, which is how a test leads it into a simulated phone;
// nil: exec.CommandContext.
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
