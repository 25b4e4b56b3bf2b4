package mirror

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	// upstreamVersion matches the part of an upstream version that apk supports: "72.1", "2026f",
	// "20250419".
	upstreamVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*[a-z]?`)
	// updateNumber matches the count in the suffix of a stable update or a binary rebuild:
	// "+deb12u14", "~deb12u2", "+b1".
	updateNumber  = regexp.MustCompile(`(?:deb[0-9]+u|\+b)([0-9]+)`)
	leadingDigits = regexp.MustCompile(`^[0-9]+`)
)

// apkVersion converts a Debian version ("1:2.38.1-5+deb12u3") to an apk version ("2.38.1-r503"):
// the part of the upstream version that apk supports, and a release number. The release number is
// Debian's revision times a hundred plus its updates and rebuilds, so that a later Debian package
// is a later apk.
func apkVersion(debian string) (string, error) {
	version := debian
	if _, rest, found := strings.Cut(version, ":"); found {
		version = rest
	}
	upstream, revision := version, ""
	if i := strings.LastIndexByte(version, '-'); i >= 0 {
		upstream, revision = version[:i], version[i+1:]
	}
	number := upstreamVersion.FindString(upstream)
	if number == "" {
		return "", fmt.Errorf("version %q of Debian has no number that apk would understand", debian)
	}
	release := 0
	if digits := leadingDigits.FindString(revision); digits != "" && len(digits) < 8 {
		release, _ = strconv.Atoi(digits)
		release *= 100
	}
	for _, update := range updateNumber.FindAllStringSubmatch(version, -1) {
		n, err := strconv.Atoi(update[1])
		if err != nil {
			return "", fmt.Errorf("version %q of Debian: %w", debian, err)
		}
		release += n
	}
	return fmt.Sprintf("%s-r%d", number, release), nil
}
