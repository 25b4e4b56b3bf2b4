// Package mirror serves, on a loopback address, what a build otherwise takes
// from Docker Hub and from Alpine's package mirror: a registry with an
// Alpine-like base image, and a signed apk repository with PostgreSQL and all
// that it links to. It is for computers that cannot reach the public ones,
// and for tests. A build takes the same path with it as without.
//
// It is not Alpine. The packages are Debian's programs for the target architecture, fetched and
// verified by apt in a separate state folder and repackaged as .apk files. They run on glibc, which
// is one of the packages and stands at Debian's multiarch paths, where musl does not look, so both
// live in one root. Libraries are provided and needed as "so:glibc:NAME", for Alpine's own
// libssl.so.3 is of no use to a program that wants Debian's.
//
// The base image is Alpine's minirootfs when Options.Fixtures has it, and
// otherwise a root in Alpine's layout made from Debian's static busybox.
//
// Everything that is fetched and built is kept in a cache folder, where each step is placed
// atomically by a rename. If everything is there, neither apt nor the network is used. The same
// Debian packages, fixtures and key give the same bytes.
package mirror
