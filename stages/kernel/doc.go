// Package kernel is the stage that makes the guest's kernel.
//
// It has two forms. Building takes the source archive that the lock names,
// configures it with the fragments of package kernel at the top of the
// repository, and compiles it so that the same source, configuration and
// compiler give the same bytes in any directory, at any time, with any number
// of jobs. With Options.Prebuilt the stage takes a finished image instead.
// Either way the configuration inside the image is read back and held against
// what the guest needs; a kernel that cannot carry the guest fails the build.
//
// Outputs: "kernel", a raw arm64 Image or a bzImage; "config", its
// configuration; "kernel.json", an Info.
//
// Resolve decides which source archive a build takes, before there is a lock.
package kernel
