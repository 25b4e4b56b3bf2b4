// Package filesystem mounts the file systems that every guest has and makes the directories that
// its services ask for.
//
// [MountKernel] makes /proc, /sys, /dev and their like. [MountTmpfs] and [MakeDirectory] do what a
// guest's specification (package guestspec) describes. The data disk belongs to package disk.
package filesystem
