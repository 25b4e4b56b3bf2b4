// Package mirrortest starts the mirror for tests.
package mirrortest

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/mirror"
)

// Start serves the mirror for the architectures (none: both) until the test ends. Its base is
// Alpine's if the fixtures exist. Its cache is in the user's cache folder or in $SOV_MIRROR_DIR, so
// that tests fetch Debian's packages only once. Start skips the test if the packages are neither
// cached nor available.
func Start(t testing.TB, arches ...string) *mirror.Mirror {
	t.Helper()
	return StartWith(t, mirror.Options{Arches: arches, Fixtures: Fixtures()})
}

// StartWith is Start with options. It sets an empty Dir to $SOV_MIRROR_DIR.
func StartWith(t testing.TB, o mirror.Options) *mirror.Mirror {
	t.Helper()
	if o.Dir == "" {
		o.Dir = os.Getenv("SOV_MIRROR_DIR")
	}
	m, err := mirror.Start(t.Context(), o)
	if errors.Is(err, mirror.ErrUnavailable) {
		t.Skipf("needs Debian's packages, by apt or in the mirror's cache: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Fixtures returns the folder with Alpine's release tarballs, or "".
func Fixtures() string {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
	return mirror.FindFixtures(os.Getenv, filepath.Join(root, "..", "shared", "alpine"))
}
