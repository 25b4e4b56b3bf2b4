// Package crosvm runs a virtual machine with the crosvm program of an Android phone: it finds the
// program, builds the arguments that this build supports, starts it without root's rights,
// interprets its exit, and uses its control socket. The caller manages networks, the content of
// disks, and supervision.
//
// Flags, exit statuses and the control socket follow crosvm's sources (src/crosvm/cmdline.rs,
// src/main.rs, vm_control). The flags differ between Android releases, and vendors build crosvm
// with fewer, so only flags in the output of `run --help` are used.
package crosvm
