// Package localvm runs a built artifact on this computer, in QEMU, as a phone runs it: with the
// same kernel, root file system and command line, a persistent data disk that is created at the
// first start, and a config disk that is written at each start. The guest's published ports are
// reachable at 127.0.0.1.
package localvm
