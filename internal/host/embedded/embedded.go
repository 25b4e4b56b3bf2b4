// Package embedded contains the programs for the guest (sov-init) and the phone (sov-runner), for
// each architecture. `go generate ./internal/host/embedded` (run by `make build`) builds them and
// compresses them with zstd. A module's zip does not contain them: for a sov of `go install`,
// Source compiles them.
package embedded

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/klauspost/compress/zstd"
)

//go:generate go run ./generate

//go:embed all:bin
var programs embed.FS

// path returns the path of a program in programs.
func path(name, arch string) string { return "bin/" + name + "-" + arch + ".zst" }

// Program returns the bytes of a program ("sov-init", "sov-runner") for an architecture ("arm64",
// "amd64"). The error is ErrAbsent if this sov was compiled without it.
func Program(name, arch string) ([]byte, error) {
	packed, err := programs.ReadFile(path(name, arch))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this sov was compiled without %s for %s: %w", name, arch, ErrAbsent)
	}
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	program, err := decoder.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("embedded %s for %s: %w", name, arch, err)
	}
	return program, nil
}
