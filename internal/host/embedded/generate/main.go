// Command generate builds the programs that sov carries, for every architecture, and leaves them
// compressed in ../bin. Its output depends on the sources and the Go toolchain alone, so that two
// machines make the same sov; where $SOV_VERSION names a release, on that as well: sov-runner tells
// it.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/crosscompile"
)

func main() {
	for _, name := range crosscompile.Programs {
		for _, arch := range arch.Names() {
			if err := generate(name, arch); err != nil {
				fmt.Fprintf(os.Stderr, "generate %s for %s: %v\n", name, arch, err)
				os.Exit(1)
			}
		}
	}
}

// root is the module's folder, seen from the one where `go generate` starts this program.
const root = "../../.."

func generate(name, arch string) error {
	scratch, err := os.MkdirTemp("", "sov-generate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	program := filepath.Join(scratch, name)
	err = crosscompile.Program(context.Background(), false, root, name, arch, os.Getenv("SOV_VERSION"), program, func(string) {})
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	return replace(filepath.Join("bin", name+"-"+arch+".zst"), encoder.EncodeAll(raw, nil))
}

// replace writes a file only when its content changes, so that an unchanged program recompiles
// nothing.
func replace(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return durable.WriteFile(path, content, 0o644)
}
