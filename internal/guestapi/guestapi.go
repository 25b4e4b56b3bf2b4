// Package guestapi is the guest's HTTP endpoint as both ends see it: the paths and JSON that sov-init answers with
// (package guest), and the client for whoever runs the machine (sov run, the runner on a phone).
//
// The endpoint listens on the guest's own address only, and every request carries the token of this boot:
//
//	GET  /status     200, a Status
//	POST /shutdown   202; services are stopped in order, disks unmounted, and the machine powers off
//
// A missing or wrong token is answered with 401.
package guestapi

import "time"

// Paths of the endpoint.
const (
	PathStatus   = "/status"
	PathShutdown = "/shutdown"
)

// A Status is how the guest is.
type Status struct {
	Image    string    `json:"image"`              // the recipe's name
	Version  string    `json:"version"`            // of the image
	Hostname string    `json:"hostname"`           //
	BootID   string    `json:"boot_id"`            // /proc/sys/kernel/random/boot_id: another one is another boot
	Kernel   string    `json:"kernel"`             // release, as uname -r
	Time     time.Time `json:"time"`               // the guest's clock when it answered
	Uptime   float64   `json:"uptime"`             // seconds since the kernel started
	Ready    bool      `json:"ready"`              // every service is ready (or, if it runs once, done)
	Stopping bool      `json:"stopping"`           // a shutdown is under way
	Data     Data      `json:"data"`               //
	Services []Service `json:"services"`           // in order of name
	Memory   Memory    `json:"memory"`             //
	Problems []string  `json:"problems,omitempty"` // what went wrong at boot and keeps the guest from part of its work
	Orphans  int       `json:"orphans"`            // processes reaped that no service had started itself
}

// Memory is the machine's, in bytes.
type Memory struct {
	Total     int64 `json:"total"`
	Available int64 `json:"available"` // could be had without swapping
}

// Data is the use of the data disk.
type Data struct {
	Path  string `json:"path"`            // where it is mounted
	Size  int64  `json:"size"`            // bytes of the file system
	Free  int64  `json:"free"`            // bytes that services may still write
	Fault string `json:"fault,omitempty"` // why it is not mounted
}

// A Service is one supervised process.
type Service struct {
	Name       string    `json:"name"`
	State      string    `json:"state"`                 // one of the State constants
	Reason     string    `json:"reason,omitempty"`      // in a person's words, where State is not StateReady
	PID        int       `json:"pid,omitempty"`         // of the main process
	Restarts   int       `json:"restarts"`              // since boot
	ReadyIn    float64   `json:"ready_in,omitempty"`    // seconds from the kernel's start to the first time it was ready
	Since      time.Time `json:"since"`                 // when it entered State
	Failures   int       `json:"failures,omitempty"`    // ends in a row that nobody asked for
	LastOutput []string  `json:"last_output,omitempty"` // the last lines it printed, where State is not StateReady
}

// States of a service.
const (
	StateWaiting  = "waiting"  // for the services it comes after
	StateStarting = "starting" // preparing, or running and not ready yet
	StateReady    = "ready"
	StateDone     = "done"       // ran once, as it should
	StateBackoff  = "backoff"    // ended; will be started again
	StateLooping  = "crash-loop" // ends again and again; still tried, rarely
	StateFailed   = "failed"     // starting it again cannot help: a person has to look
	StateStopped  = "stopped"
)
