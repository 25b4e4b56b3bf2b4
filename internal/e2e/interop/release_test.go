package interop

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

const releaseVersion = "v0.9.9-test"

// makeRelease makes a release for this computer from the sources in checkout, signs it with the key
// file, if any, and returns the path of its archive.
func makeRelease(t *testing.T, checkout, key string) (archive string) {
	t.Helper()
	run(t, checkout, "env", "SOURCE_DATE_EPOCH=1700000000", "SOV_RELEASE_KEY="+key, ".ci/release", releaseVersion, "linux/"+runtime.GOARCH)
	return filepath.Join(checkout, "dist", "sov-"+releaseVersion+"-linux-"+runtime.GOARCH+".tar.gz")
}

// TestRelease checks that a release has the same bytes in any folder, that openssl accepts its
// signature, and that the programs in its archive work.
func TestRelease(t *testing.T) {
	key, public := filepath.Join(t.TempDir(), "key.pem"), filepath.Join(t.TempDir(), "key.pub")
	run(t, "", sovtest.Program, "key", "new", key)
	if err := os.WriteFile(public, []byte(run(t, "", sovtest.Program, "key", "public", key)), 0o644); err != nil {
		t.Fatal(err)
	}
	one, _ := sovtest.Checkout(t)
	other, _ := sovtest.Checkout(t)
	archive := makeRelease(t, one, key)
	makeRelease(t, other, key)
	run(t, "", "diff", "--recursive", filepath.Join(one, "dist"), filepath.Join(other, "dist"))

	dist := filepath.Dir(archive)
	run(t, dist, "sha256sum", "--check", "--strict", "SHA256SUMS")
	run(t, dist, "openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, "-in", "SHA256SUMS", "-sigfile", "SHA256SUMS.sig")

	prefix := t.TempDir()
	run(t, "", "tar", "-xzf", archive, "--strip-components=1", "-C", prefix)
	if got := run(t, "", filepath.Join(prefix, "bin/sov"), "version"); !strings.HasPrefix(got, "sov "+releaseVersion+" ") {
		t.Errorf("its sov is %s", got)
	}
	for _, program := range []string{"sov-mirror", "sov-simulator"} {
		if got := run(t, "", filepath.Join(prefix, "bin", program), "--help"); !strings.Contains(got, program) {
			t.Errorf("%s --help: %s", program, got)
		}
	}
	completion := `. "$1" && complete -p sov`
	if got := run(t, "", "bash", "-c", completion, "bash", filepath.Join(prefix, "share/bash-completion/completions/sov")); !strings.Contains(got, "__start_sov") {
		t.Errorf("bash completes with %s", got)
	}
	for _, file := range []string{"man/man1/sov.1", "man/man1/sov-cache-ls.1", "zsh/site-functions/_sov", "fish/vendor_completions.d/sov.fish", "doc/sov/CHANGELOG.md"} {
		if info, err := os.Stat(filepath.Join(prefix, "share", file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}

	// The release fails if the changelog lacks the version, or marks it as unreleased.
	if err := os.WriteFile(filepath.Join(one, "CHANGELOG.md"), []byte("## 0.9.8 — unreleased\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"v0.9.8", "v0.9.9"} {
		if out := run(t, one, "sh", "-c", ".ci/release $0 2>&1 || echo refused", version); !strings.Contains(out, "no heading '## "+version[1:]+"'") || !strings.Contains(out, "refused") {
			t.Errorf("%s, which the changelog does not have as released: %s", version, out)
		}
	}
}
