// Package guest is the init of a guest: PID 1 from the first mount to the power switch.
//
// What it does, in order, is in boot.go; what keeps services alive is in service.go; how the
// machine is put to rest is in shutdown.go. The package decides nothing that the recipe could:
// which services there are and how they are treated is in the image (package guestspec), what is
// only known at start is on the config disk (package configdisk). The clock is kept by package
// timekeeper, the data disk watched in space.go, and what the log says is kept in journal.go.
//
// # Processes
//
// PID 1 inherits every orphan of the machine and has to wait for it. One loop (reaper.go) does all
// the waiting and hands each status to whoever started the process, so package os/exec, which
// waits by itself, is not used in PID 1 anywhere.
//
// # The log
//
// Everything that happens, and every line that a service prints, goes to the console as one line:
//
//	sov-init[1]: 2026-07-01T12:00:00.123Z LEVEL SERVICE: TEXT KEY=VALUE...
//
// LEVEL is info, warn or error for what the init itself says, and out for what a service printed.
// SERVICE is init where no service is meant. Values are quoted as Go strings when they need it,
// control characters are escaped, and lines are at most a few KiB. The line with the text "ready"
// of SERVICE init is printed once, when every service is ready (or, being a task, done) for the
// first time; "power off" is the last one.
package guest
