// Command generate builds the embedded programs for every architecture and writes them, compressed,
// to ../bin. Its output depends only on the sources, the Go toolchain and, for a release,
// $SOV_VERSION, which sov-runner reports, so that two computers build the same sov.
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

// root is the module's folder, relative to the folder in which `go generate` runs this program.
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

// replace writes a file only if its content changes, so that an unchanged program does not cause
// recompilation.
func replace(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return durable.WriteFile(path, content, 0o644)
}
