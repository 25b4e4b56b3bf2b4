package guestspec

// Of a disk image (see package stages/disk), whose kernel starts sov-init from a boot partition.
const (
	// InitPath is where sov-init is, in the boot partition and in the root file system.
	InitPath = "/sbin/sov-init"
	// RootMappingPath is a file of the boot partition, which no root file system has: how the
	// device mapper makes the root file system out of its partition, in one line of dm_table's
	// format ("0 SECTORS verity ...").
	RootMappingPath = "/etc/sov/root.mapping"
	// NewRoot is a directory of the boot partition, on which the root file system is mounted.
	NewRoot = "/root"
	// StandaloneDir holds files that stand for those of the same path below it when a guest is
	// given no config disk.
	StandaloneDir = "/etc/sov/standalone"
)
