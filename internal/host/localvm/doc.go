// Package localvm runs a built artifact on this computer, in QEMU, the way a phone will run it: the
// same kernel, root filesystem and command line, a data disk made on the first start and kept, and
// a config disk written afresh at each. The guest's published ports are reachable at 127.0.0.1.
package localvm
