// Package kernel is the stage that makes the guest's kernel.
//
// It has two forms. Building unpacks the source archive in the lock, configures it with the
// fragments of the top-level package kernel, and compiles it. The same source, configuration and
// compiler give the same bytes in any directory, at any time, with any number of jobs. With
// Options.Prebuilt the stage uses a finished image instead. Both forms read the configuration from
// the image and compare it with the guest's requirements; an unmet requirement fails the build.
//
// Outputs: "kernel", a raw arm64 Image or a bzImage; "config", its
// configuration; "kernel.json", an Info.
//
// Resolve chooses the source archive of a build that has no lock.
package kernel
