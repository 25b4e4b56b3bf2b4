// Package release distinguishes versions of releases from those of other builds, and compares
// releases. The version of a release is a semantic version, v1.2.0 or v1.2.0-rc.1; other builds are
// not ordered.
package release

import (
	"regexp"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// between ends the version of a build that is not a release: .ci/version appends "dev" and the
// commit to the version of the next release, and git describe appends the number of commits since
// the previous tag.
var between = regexp.MustCompile(`-dev$|-(dev|[0-9]+)-g[0-9a-f]+$|-dirty$`)

const maxLength = 64 // of a version, which may be untrusted

// Is reports whether a version is that of a release, which has only letters, digits, dots and
// hyphens.
func Is(version string) bool {
	return len(version) <= maxLength && semver.IsValid(version) && semver.Canonical(version) == version &&
		!between.MatchString(version) && !module.IsPseudoVersion(version)
}

// described matches a version with a commit at its end.
var described = regexp.MustCompile(`^.+-(?:dev|[0-9]+)-g([0-9a-f]+)(-dirty)?$`)

// Name returns a name of a build's sources that is the same on every computer: a release's version
// or, for other builds, the first digits of the commit. It accepts the formats of .ci/version, `git
// describe` and Go module versions (v1.2.1-0.20260102030405-abcdef012345).
func Name(version string) string {
	if commit, err := module.PseudoVersionRev(version); err == nil {
		return commit
	}
	return described.ReplaceAllString(version, "$1$2")
}

// Newer reports whether both versions are releases and the first is newer than the second.
func Newer(a, b string) bool { return Is(a) && Is(b) && semver.Compare(a, b) > 0 }
