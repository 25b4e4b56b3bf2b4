package qemu

import (
	"context"
	"os/exec"
	"runtime"
)

// sandbox makes QEMU deny itself, with a seccomp filter, the system calls that it does not need to
// run a machine: obsolete ones, those that raise privileges, those that start programs, and those
// that change priorities (qemu(1), "-sandbox").
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// sandboxed reports whether a QEMU program supports the option: one that was built without seccomp,
// as on macOS, rejects it. The check takes some 40 ms.
func sandboxed(ctx context.Context, program string) bool {
	return runtime.GOOS == "linux" && exec.CommandContext(ctx, program, "-sandbox", sandbox, "-version").Run() == nil
}
