// Package mirror serves, on a loopback address, what a build otherwise fetches from Docker Hub and
// from Alpine's package mirror: a registry with an Alpine-like base image, and a signed apk
// repository with PostgreSQL and all libraries that it links to. It is for tests and for computers
// that cannot reach the public services. Builds run the same code with and without it.
//
// It is not Alpine. The packages contain Debian's programs for the target architecture. apt fetches
// and verifies Debian's packages in a separate state folder, and the mirror repackages them as .apk
// files. The programs run on glibc, which is one of the packages. Its files are at Debian's
// multiarch paths, which musl does not search, so that both can exist in one root. Libraries are
// provided and required as "so:glibc:NAME", because Debian's programs cannot use Alpine's libraries
// of the same soname.
//
// The base image is Alpine's minirootfs if Options.Fixtures has it. Otherwise it is a root in
// Alpine's layout, made from Debian's static busybox.
//
// The mirror keeps everything that it fetches and builds in a cache folder. Each step ends with an
// atomic rename. If everything is cached, the mirror uses neither apt nor the network. The same
// Debian packages, fixtures and key result in the same bytes.
package mirror
