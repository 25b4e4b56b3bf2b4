// Package filesystem mounts the file systems of every guest and creates the directories of its
// services.
//
// [MountKernel] mounts /proc, /sys, /dev and others. [MountTmpfs] and [MakeDirectory] implement
// parts of a guest's specification (package guestspec). Package disk mounts the data disk.
package filesystem
