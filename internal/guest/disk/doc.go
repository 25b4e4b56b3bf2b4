// Package disk finds the disks of a guest and manages the data disk and the recipe's volumes: it
// checks and mounts them, enlarges their file systems after the devices have grown, warns when they
// fill up, and unmounts them at shutdown.
//
// It formats only a new disk that must be encrypted, never another disk, because that contains the
// user's data. It only reads the config disk, whose format package configdisk defines.
package disk
