package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/release"
)

// A Runner is the sov-runner that this computer has for phones.
type Runner struct {
	Program func(ctx context.Context, arch string) ([]byte, error) // for an architecture
	Release string                                                 // of sov; what is no release has no place in their order, and replaces any
	GoBack  bool                                                   // it also replaces one of a newer release
}

// A Replacement is what EnsureRunner did.
type Replacement struct {
	Changed bool   // there was another sov-runner, or none that runs
	Before  string // the release of that other, or that it is none's; empty: there was none
}

// EnsureRunner makes r the phone's sov-runner. The old one stays in place until the new one has run
// on the phone. One of a newer release may have left what an older one does not read, and is not
// replaced unless that is meant.
func EnsureRunner(ctx context.Context, p device.Phone, r Runner) (Replacement, error) {
	var done Replacement
	answer, err := device.Output(ctx, p, "uname", "-m")
	if err != nil {
		return done, err
	}
	machine := strings.TrimSpace(string(answer))
	a, err := arch.OfUname(machine)
	if err != nil {
		return done, fmt.Errorf("%s: %w", p.Name(), err)
	}
	content, err := r.Program(ctx, a.Go)
	if err != nil {
		return done, err
	}
	want := versionOf(content)
	runner := p.Root().Runner()
	switch there := runnerVersion(ctx, p, runner); {
	case there.Version == want:
		return done, nil
	case release.Newer(there.Release, r.Release) && !r.GoBack:
		return done, fmt.Errorf("%s: its sov-runner has release %s, this sov has %s, which is older and may not be able to read its files: "+
			"update sov, or go back on purpose with --replace-runner", p.Name(), there.Release, r.Release)
	case release.Is(there.Release):
		done.Before = there.Release
	case there.Version != "":
		done.Before = "a development build"
	}
	if err := p.Run(ctx, device.Command{Args: []string{"sh", "-c", `umask 022 && mkdir -p "$1"`, "sh", path.Dir(runner)}}); err != nil {
		return done, err
	}
	fresh := runner + ".new"
	if err := device.WriteFile(ctx, p, fresh, 0o755, bytes.NewReader(content), int64(len(content))); err != nil {
		return done, err
	}
	if got := runnerVersion(ctx, p, fresh).Version; got != want {
		return done, fmt.Errorf("%s: sov-runner does not run there as it should: its version is %.40q, want %s", p.Name(), got, want)
	}
	done.Changed = true
	return done, p.Run(ctx, device.Command{Args: []string{"sh", "-c", `mv -f "$1" "$2" && sync`, "sh", fresh, runner}})
}

// versionOf is what a runner of this content calls its version: see cmd/sov-runner.
func versionOf(content []byte) string {
	sum := sha256.Sum256(content)
	return fmt.Sprintf("sha256:%x", sum[:8])
}

// runnerVersion asks a runner for its version. One that is not there, or does not run, has none.
func runnerVersion(ctx context.Context, p device.Phone, program string) runnerapi.Version {
	var v runnerapi.Version
	answer, err := device.Output(ctx, p, program, "version", "--json")
	if err != nil || json.Unmarshal(answer, &v) != nil {
		return runnerapi.Version{}
	}
	return v
}
