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

// A Runner is the sov-runner to install on phones.
type Runner struct {
	Program func(ctx context.Context, arch string) ([]byte, error) // for an architecture
	Release string                                                 // of sov; a build that is not a release replaces any other
	GoBack  bool                                                   // also replace one of a newer release
}

// A Replacement is what EnsureRunner did.
type Replacement struct {
	Changed bool   // there was another sov-runner, or none that works
	Before  string // the release of the other, or that it is not a release; empty: there was none
}

// EnsureRunner installs r on the phone unless it is there. The old one is replaced only after the
// new one has run on the phone. A newer release is replaced only with r.GoBack: it may have written
// files that the older one cannot read.
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

// versionOf returns the version that a runner with this content prints, see cmd/sov-runner.
func versionOf(content []byte) string {
	sum := sha256.Sum256(content)
	return fmt.Sprintf("sha256:%x", sum[:8])
}

// runnerVersion runs a runner to get its version; empty if it is missing or does not run.
func runnerVersion(ctx context.Context, p device.Phone, program string) runnerapi.Version {
	var v runnerapi.Version
	answer, err := device.Output(ctx, p, program, "version", "--json")
	if err != nil || json.Unmarshal(answer, &v) != nil {
		return runnerapi.Version{}
	}
	return v
}
