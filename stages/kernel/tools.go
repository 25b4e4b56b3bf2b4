package kernel

import "context"

// CheckTools reports which of the programs and headers that compiling a kernel for an architecture
// ("arm64" or "amd64") takes are missing on this computer: nil, or a *MissingToolsError that names
// them all and says how to install them.
func CheckTools(ctx context.Context, arch string) error {
	return Options{Arch: arch}.toolchain().check(ctx)
}
