package kernel

import "context"

// CheckTools checks that this computer has the programs and headers for compiling a kernel for an
// architecture ("arm64" or "amd64"). Otherwise it returns a *MissingToolsError that lists all
// missing ones and says how to install them.
func CheckTools(ctx context.Context, arch string) error {
	return Options{Arch: arch}.toolchain().check(ctx)
}
