// Package crosvm runs a virtual machine with the crosvm program of an Android phone: it finds the
// program, builds the arguments that this build of it knows, starts it without root's rights, tells
// its ends apart and speaks to its control socket. Networks, disks' content and supervision are the
// caller's business.
//
// Flags, exit statuses and the control socket are those of crosvm's own sources
// (src/crosvm/cmdline.rs, src/main.rs, vm_control). Each release of Android has a crosvm with other
// flags, and vendors build it with fewer: what `run --help` lists is what is passed.
package crosvm
