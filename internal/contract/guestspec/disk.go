package guestspec

// Paths in a disk image (see package stages/disk), whose kernel starts sov-init from a boot
// partition.
const (
	// InitPath is the path of sov-init, in the boot partition and in the root file system.
	InitPath = "/sbin/sov-init"
	// RootMappingPath is a file of the boot partition only: the device mapper table line of the
	// root file system ("0 SECTORS verity ...").
	RootMappingPath = "/etc/sov/root.mapping"
	// NewRoot is a directory of the boot partition, on which the root file system is mounted.
	NewRoot = "/root"
	// StandaloneDir has files that replace those of the same path in a guest without a config disk.
	StandaloneDir = "/etc/sov/standalone"
)
