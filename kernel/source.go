package kernel

import "strings"

// Version is the release of Linux that is built unless the caller asks for
// another. It belongs to a long-term series, which Android's and Debian's
// kernels are made from too.
const Version = "6.1.192"

// DebianPackage is the Debian package with the source of the same series, for
// machines that reach Debian's archive and not kernel.org. Debian's point
// release may differ from Version; the lock records which one was taken.
const DebianPackage = "linux-source-6.1"

// InstalledSource is where DebianPackage puts its archive.
const InstalledSource = "/usr/src/linux-source-6.1.tar.xz"

// SourceURL returns the address of a release's archive on kernel.org. The signature of the
// uncompressed archive stands beside it, at SignatureURL. The list of checksums there,
// sha256sums.asc, proves nothing: it is signed with a key of kernel.org's servers, which sov does
// not trust, and a mirror that can replace an archive can replace the list.
func SourceURL(version string) string { return releaseBase(version) + ".tar.xz" }

// SignatureURL returns the address of the OpenPGP signature of a release.
func SignatureURL(version string) string { return releaseBase(version) + ".tar.sign" }

func releaseBase(version string) string { return series(version) + "linux-" + version }

func series(version string) string {
	major, _, _ := strings.Cut(version, ".")
	return "https://cdn.kernel.org/pub/linux/kernel/v" + major + ".x/"
}
