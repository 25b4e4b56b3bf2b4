// Command generate builds the programs that sov carries, for every architecture, and leaves them compressed in
// ../bin. Its output depends on the sources and the Go toolchain alone, so that two machines make the same sov; where
// $SOV_VERSION names a release, on that as well: sov-runner tells it.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/release"
)

func main() {
	for _, name := range []string{"sov-init", artifact.RunnerFile} {
		for _, arch := range arch.Names() {
			if err := generate(name, arch); err != nil {
				fmt.Fprintf(os.Stderr, "generate %s for %s: %v\n", name, arch, err)
				os.Exit(1)
			}
		}
	}
}

// generate runs in internal/embedded, where `go generate` starts it.
func generate(name, arch string) error {
	scratch, err := os.MkdirTemp("", "sov-generate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	program := filepath.Join(scratch, name)
	// The guest's endpoint speaks HTTP/1.1 and has no use for HTTP/2, 0.4 MB of every image.
	flags := "-s -w -buildid="
	if v := os.Getenv("SOV_VERSION"); name == artifact.RunnerFile && release.Is(v) {
		flags += " -X main.release=" + v
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags="+flags, "-tags=nethttpomithttp2",
		"-o", program, "github.com/sovereign-sql/sov/cmd/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
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

// replace writes a file only when its content changes, so that an unchanged program recompiles nothing.
func replace(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return durable.WriteFile(path, content, 0o644)
}
