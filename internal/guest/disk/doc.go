// Package disk finds the disks of a guest, and looks after those with data while the guest runs,
// the data disk and the recipe's volumes: it checks and mounts them, enlarges their file systems
// when the devices have grown, warns when they fill up, and unmounts them at the end.
//
// It formats no disk but a new one that is to be encrypted: whatever is wrong with another one, the
// data on it is the user's. The config disk is only read; its format is package configdisk's.
package disk
