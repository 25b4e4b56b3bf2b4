package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/sovereign-sql/sov/internal/phone"
)

// architectures are what `uname -m` says, and what Go calls it.
var architectures = map[string]string{"aarch64": "arm64", "arm64": "arm64", "x86_64": "amd64"}

// EnsureRunner makes the phone's sov-runner the one that program returns for an architecture, and tells whether it was another
// or none. The old one stays in place until the new one has run on the phone.
func EnsureRunner(ctx context.Context, p phone.Phone, program func(arch string) ([]byte, error)) (changed bool, err error) {
	answer, err := phone.Output(ctx, p, "uname", "-m")
	if err != nil {
		return false, err
	}
	machine := strings.TrimSpace(string(answer))
	arch, ok := architectures[machine]
	if !ok {
		return false, fmt.Errorf("%s: its processor is %.20q: sov knows arm64 and x86_64", p.Name(), machine)
	}
	content, err := program(arch)
	if err != nil {
		return false, err
	}
	runner := p.Root().Runner()
	if runnerVersion(ctx, p, runner) == versionOf(content) {
		return false, nil
	}
	if err := p.Run(ctx, phone.Command{Args: []string{"sh", "-c", `umask 022 && mkdir -p "$1"`, "sh", path.Dir(runner)}}); err != nil {
		return false, err
	}
	fresh := runner + ".new"
	if err := phone.WriteFile(ctx, p, fresh, 0o755, bytes.NewReader(content), int64(len(content))); err != nil {
		return false, err
	}
	if got := runnerVersion(ctx, p, fresh); got != versionOf(content) {
		return false, fmt.Errorf("%s: sov-runner does not run there as it should: its version is %.40q, want %s", p.Name(), got, versionOf(content))
	}
	return true, p.Run(ctx, phone.Command{Args: []string{"sh", "-c", `mv -f "$1" "$2" && sync`, "sh", fresh, runner}})
}

// versionOf is what a runner of this content calls its version: see cmd/sov-runner.
func versionOf(content []byte) string {
	sum := sha256.Sum256(content)
	return fmt.Sprintf("sha256:%x", sum[:8])
}

// runnerVersion asks a runner for its version. One that is not there, or does not run, has none.
func runnerVersion(ctx context.Context, p phone.Phone, program string) string {
	answer, err := phone.Output(ctx, p, program, "version", "--json")
	if err != nil {
		return ""
	}
	var v struct {
		Version string `json:"version"`
	}
	if json.Unmarshal(answer, &v) != nil {
		return ""
	}
	return v.Version
}
