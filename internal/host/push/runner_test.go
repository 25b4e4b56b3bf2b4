package push

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/device"
)

// script returns a sov-runner that only prints its version. Builds of a release differ in a
// comment.
func script(release, build string) []byte {
	if release != "" {
		release = fmt.Sprintf(`, "release": "%s"`, release)
	}
	return fmt.Appendf(nil, `#!/bin/sh
# %s
sum=$(sha256sum "$0") || exit
echo '{"version": "sha256:'"$(printf %%.16s "$sum")"'"%s}'
`, build, release)
}

// TestEnsureRunner: which runner is kept or replaced, and what is reported.
func TestEnsureRunner(t *testing.T) {
	const none = "none"
	for _, c := range []struct {
		name         string
		there, build string // release and build of the phone's runner; none: it has none
		own          string // release of this sov
		goBack       bool
		want         Replacement
		refused      string
	}{
		{name: "a new phone", there: none, own: "v1.2.0", want: Replacement{Changed: true}},
		{name: "the same", there: "v1.2.0", build: "own", own: "v1.2.0"},
		{name: "an older one", there: "v1.1.0", own: "v1.2.0", want: Replacement{true, "v1.1.0"}},
		{name: "another build of the same release", there: "v1.2.0", build: "other", own: "v1.2.0", want: Replacement{true, "v1.2.0"}},
		{name: "a newer one", there: "v1.10.0", own: "v1.2.0", refused: "its sov-runner has release v1.10.0, this sov has v1.2.0"},
		{name: "a newer one, by a candidate", there: "v1.2.0", own: "v1.2.0-rc.1", refused: "update sov, or go back on purpose with --replace-runner"},
		{name: "a newer one, on purpose", there: "v1.10.0", own: "v1.2.0", goBack: true, want: Replacement{true, "v1.10.0"}},
		{name: "a newer one, by a development build", there: "v1.10.0", own: "v1.2.0-5-gabcdef0", want: Replacement{true, "v1.10.0"}},
		{name: "a development build, by a release", there: "", own: "v1.2.0", want: Replacement{true, "a development build"}},
		{name: "what calls itself anything", there: `v9.0.0-\u001b[31m`, own: "v1.2.0", want: Replacement{true, "a development build"}},
		{name: "two development builds", there: "", build: "other", own: "development", want: Replacement{true, "a development build"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := phonepath.Root(t.TempDir())
			old := script(c.there, c.build)
			if c.there != none {
				if err := os.MkdirAll(filepath.Dir(root.Runner()), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(root.Runner(), old, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			release := c.own
			if !strings.HasPrefix(c.own, "v") || strings.Contains(c.own, "-g") {
				release = "" // as internal/embedded/generate has it
			}
			own := script(release, "own")
			p := device.Local(root, nil)
			got, err := EnsureRunner(t.Context(), p, Runner{
				Program: func(context.Context, string) ([]byte, error) { return own, nil }, Release: c.own, GoBack: c.goBack,
			})
			want := own
			if c.refused != "" {
				want = old
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v", err)
				}
			} else if err != nil || got != c.want {
				t.Errorf("%+v, %v", got, err)
			}
			if now, err := os.ReadFile(root.Runner()); err != nil || string(now) != string(want) {
				t.Errorf("there is now %q, %v", now, err)
			}
			if names, err := os.ReadDir(filepath.Dir(root.Runner())); err != nil || len(names) != 1 {
				t.Errorf("beside it: %v, %v", names, err)
			}
		})
	}
}

// TestEnsureRunnerThatDoesNotRun: a program that does not run on the phone is not installed.
func TestEnsureRunnerThatDoesNotRun(t *testing.T) {
	root := phonepath.Root(t.TempDir())
	p := device.Local(root, nil)
	give := func(content []byte) error {
		_, err := EnsureRunner(t.Context(), p, Runner{Program: func(context.Context, string) ([]byte, error) { return content, nil }})
		return err
	}
	good := script("v1.2.0", "good")
	if err := give(good); err != nil {
		t.Fatal(err)
	}
	if err := give([]byte("#!/bin/sh\nexit 1\n")); err == nil || !strings.Contains(err.Error(), "does not run there") {
		t.Errorf("%v", err)
	}
	if now, err := os.ReadFile(root.Runner()); err != nil || string(now) != string(good) {
		t.Errorf("there is now %q, %v", now, err)
	}
}

// A phoneOf answers `uname -m` with machine.
type phoneOf struct {
	device.Phone
	machine string
}

func (p phoneOf) Run(ctx context.Context, c device.Command) error {
	if c.Args[0] == "uname" {
		_, err := fmt.Fprintln(c.Stdout, p.machine)
		return err
	}
	return p.Phone.Run(ctx, c)
}

// TestRunnerForProcessor: each phone gets the sov-runner for its kernel. An arm64 kernel reports
// armv8l to a 32-bit shell, but still runs 64-bit programs.
func TestRunnerForProcessor(t *testing.T) {
	for machine, want := range map[string]string{
		"aarch64": "arm64", "armv8l": "arm64", "arm64": "arm64", "x86_64": "amd64",
		"armv7l": "", "i686": "", "riscv64": "", "": "",
	} {
		root := phonepath.Root(t.TempDir())
		got := ""
		_, err := EnsureRunner(t.Context(), phoneOf{device.Local(root, nil), machine}, Runner{Program: func(_ context.Context, arch string) ([]byte, error) {
			got = arch
			return script("", arch), nil
		}})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: sov-runner for %q, want %q: %v", machine, got, want, err)
		}
		if err != nil && !strings.Contains(err.Error(), "must be arm64 or amd64") {
			t.Errorf("%q: the refusal does not say what is allowed: %v", machine, err)
		}
	}
}
