// Package release tells versions of releases from those of other builds, and which of two is newer.
// A release is called by a semantic version, v1.2.0 or v1.2.0-rc.1; what lies between two has no
// place in their order.
package release

import (
	"regexp"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// between ends the version of a build that is not a release: .ci/version puts "dev" and the commit
// behind the version that it will become, and git describe puts the number of commits behind the
// tag before.
var between = regexp.MustCompile(`-dev$|-(dev|[0-9]+)-g[0-9a-f]+$|-dirty$`)

const maxLength = 64 // of a version: it may come from outside

// Is tells whether a version is a release's. One that is consists of letters, digits, dots and
// hyphens.
func Is(version string) bool {
	return len(version) <= maxLength && semver.IsValid(version) && semver.Canonical(version) == version &&
		!between.MatchString(version) && !module.IsPseudoVersion(version)
}

// described is a version with a commit at its end.
var described = regexp.MustCompile(`^.+-(?:dev|[0-9]+)-g([0-9a-f]+)(-dirty)?$`)

// Name is what the sources of a build are called on every computer: a release's version or, between
// two, the first digits of the commit, which .ci/version, `git describe` and the version of a Go
// module (v1.2.1-0.20260102030405-abcdef012345) have, each in its own way.
func Name(version string) string {
	if commit, err := module.PseudoVersionRev(version); err == nil {
		return commit
	}
	return described.ReplaceAllString(version, "$1$2")
}

// Newer tells whether both versions are of releases and the first is newer than the second.
func Newer(a, b string) bool { return Is(a) && Is(b) && semver.Compare(a, b) > 0 }
