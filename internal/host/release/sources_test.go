package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestVersionOfSources runs make in copies of the relevant files, and checks the version that make
// stamps into sov.
func TestVersionOfSources(t *testing.T) {
	const repository = "../../.."
	changelog, err := os.ReadFile(filepath.Join(repository, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	newest := regexp.MustCompile(`(?m)^## (\d+\.\d+\.\d+) `).FindStringSubmatch(string(changelog))
	if newest == nil {
		t.Fatal("CHANGELOG.md has no version")
	}
	v := regexp.QuoteMeta("v" + newest[1])
	const commit = `git add . && git -c user.name=n -c user.email=e commit -qm subject --allow-empty`
	for _, test := range []struct{ name, history, want string }{
		{"without git", "true", v + "-dev"},
		{"no tag", "git init -q && " + commit, v + "-dev-g[0-9a-f]{12}"},
		{"changed", "git init -q && " + commit + " && echo >>CHANGELOG.md", v + "-dev-g[0-9a-f]{12}-dirty"},
		{"the release", "git init -q && " + commit + " && git tag TAG && git tag other", v},
		{"a tag with a message", "git init -q && " + commit + " && git -c user.name=n -c user.email=e tag -m message TAG", v},
		{"a candidate", "git init -q && " + commit + " && git tag TAG-rc.1", v + `-rc\.1`},
		{"the release, changed", "git init -q && " + commit + " && git tag TAG && echo >>Makefile", v + "-dev-g[0-9a-f]{12}-dirty"},
		{"behind the release", "git init -q && " + commit + " && git tag TAG && " + commit, v + "-dev-g[0-9a-f]{12}"},
		{"a tag of no heading", "git init -q && " + commit + " && git tag v99.0.0", v + "-dev-g[0-9a-f]{12}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"Makefile", "CHANGELOG.md", ".ci/version"} {
				text, err := os.ReadFile(filepath.Join(repository, name))
				if err == nil {
					err = os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
				}
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, name), text, 0o755)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			script := strings.ReplaceAll(test.history, "TAG", "v"+newest[1]) + " && make --dry-run build"
			c := exec.Command("sh", "-euc", script)
			c.Dir = dir
			c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir), "MAKEFLAGS=", "MAKELEVEL=")
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !regexp.MustCompile(`-X main\.version=` + test.want + `'`).Match(out) {
				t.Errorf("make build stamps another version than %s:\n%s", test.want, out)
			}
		})
	}
}
