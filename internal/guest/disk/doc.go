// Package disk finds the disks of a guest, and looks after the data disk while the guest runs: it
// checks and mounts it, enlarges its file system when the device has grown, warns when it fills up,
// and unmounts it at the end.
//
// It never formats a disk: whatever is wrong with the data disk, the data on it is the user's. The
// config disk is only read; its format is package configdisk's.
package disk
