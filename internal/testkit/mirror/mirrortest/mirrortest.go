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

// Start serves the mirror for the architectures (none: both) until the test
// ends. Its base is Alpine's own where the fixtures are at hand. It works in
// the user's cache folder, or the one that SOV_MIRROR_DIR names, so that
// Debian's packages are fetched once and not by every test; the test is
// skipped where they are not there and cannot be fetched.
func Start(t testing.TB, arches ...string) *mirror.Mirror {
	t.Helper()
	return StartWith(t, mirror.Options{Arches: arches, Fixtures: Fixtures()})
}

// StartWith is Start with options, of which Dir is filled in where empty.
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

// Fixtures is the folder with Alpine's release tarballs, "" without one.
func Fixtures() string {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
	return mirror.FindFixtures(os.Getenv, filepath.Join(root, "..", "shared", "alpine"))
}
