// Package crosvm runs a virtual machine with the crosvm program of an Android phone: it finds the program, builds the
// arguments that this version of it knows, starts it, tells its ends apart and speaks to its control socket. Networks,
// disks' content and supervision are the caller's business.
//
// Flags, exit statuses and the control socket are those of crosvm's own sources (src/crosvm/cmdline.rs, src/main.rs,
// vm_control). Two dialects of flags exist in the field: the present one (--block, --net) and that of versions before
// 2023 (--disk, --rwdisk, --tap-name), which is still found on Android 13.
package crosvm
