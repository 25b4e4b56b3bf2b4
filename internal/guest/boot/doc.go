// Package boot is the init of a guest: PID 1 from the first mount to the power switch.
//
// A machine brings everything up in order (boot.go), gathers the status (status.go), waits for a
// request to shut down, which may be a signal, the power button or the endpoint (power.go), and
// shuts down (shutdown.go). It connects the packages that do the work and do not know each other:
// supervision, disk, network, endpoint, timekeeper, journal.
package boot
