// Package guestapi is the guest's HTTP endpoint as both ends see it: the paths and JSON that
// sov-init answers with (package guest), and the client for whoever runs the machine (sov run, the
// runner on a phone).
//
// The endpoint listens on the guest's own address only, and every request carries the token of this
// boot:
//
//	GET  /status     200, a Status
//	GET  /logs       200, lines of text: the last of a service's log (?service=NAME; all without it), at most ?lines=N,
//	                 and with ?follow=1 what comes, until the client goes
//	GET  /metrics    200, the status in Prometheus' text format
//	POST /clock      200, a Clock: the guest has looked at its clock's sources just now
//	POST /shutdown   202; services are stopped in order, disks unmounted, and the machine powers off
//	POST /repair     200, a Repair: one of Repairs (?what=) was made
//	GET  /backup     200, the databases and the data of services as a stream of package backup
//	POST /restore    200, takes such a stream and answers with its events, a line of JSON each
//	POST /session    101, and a shell or a command in frames of package session, as its Upgrade header asks for
//
// A missing or wrong token is answered with 401, and where there are many of them with 429. Where
// there is nothing to save, the database is not ready, or another backup or restore is under way,
// the answer is 409 and says so.
package guestapi

import (
	"slices"
	"time"
)

// StatusTime bounds how long the guest takes for a status: a service that has not answered it by
// then is told as not answering. Whoever asks waits longer.
const StatusTime = 2 * time.Second

// Paths of the endpoint.
const (
	PathStatus   = "/status"
	PathLogs     = "/logs"
	PathMetrics  = "/metrics"
	PathClock    = "/clock"
	PathShutdown = "/shutdown"
	PathBackup   = "/backup"
	PathRestore  = "/restore"
	PathUpgrade  = "/upgrade"
	PathSession  = "/session"
	PathHosts    = "/hosts"
)

// NoShell is the answer to PathSession, with status 404, of a guest whose image has no sessions.
const NoShell = "its recipe leaves shells out (vm.shell: false)"

// The guest's second console, hvc1, takes lines. It is the way to the guest that does not need its
// network.
const (
	ConsoleDevice   = "/dev/hvc1" // in the guest
	ConsoleShutdown = "shutdown"  // the line that asks for what PathShutdown does
)

// Keys of the query for PathLogs.
const (
	QueryService = "service"
	QueryLines   = "lines"
	QueryFollow  = "follow"
)

// QueryDo is the key of the query for PathUpgrade: guestspec.DoUpgrade and its like.
const QueryDo = "do"

// A Status is how the guest is.
type Status struct {
	Image    string    `json:"image"`              // the recipe's name
	Version  string    `json:"version"`            // of the image
	Hostname string    `json:"hostname"`           //
	BootID   string    `json:"boot_id"`            // /proc/sys/kernel/random/boot_id: another one is another boot
	Kernel   string    `json:"kernel"`             // release, as uname -r
	Time     time.Time `json:"time"`               // the guest's clock when it answered
	Uptime   float64   `json:"uptime"`             // seconds since the kernel started
	Ready    bool      `json:"ready"`              // every service is ready, done if it runs once, scheduled or off
	Stopping bool      `json:"stopping"`           // a shutdown is under way
	Data     Data      `json:"data"`               //
	Volumes  []Volume  `json:"volumes,omitempty"`  // in the recipe's order
	Services []Service `json:"services"`           // in order of name
	Memory   Memory    `json:"memory"`             //
	Problems []string  `json:"problems,omitempty"` // what went wrong at boot and keeps the guest from part of its work
	Orphans  int       `json:"orphans"`            // processes reaped that no service had started itself
	Network  *Network  `json:"network,omitempty"`  // nil: this guest does not tell
	Clock    *Clock    `json:"clock,omitempty"`    // nil: nothing keeps this guest's clock
	Tailnet  *Tailnet  `json:"tailnet,omitempty"`  // nil: the image has no Tailscale
	Postgres *Postgres `json:"postgres,omitempty"` // nil: the image has no PostgreSQL
}

// Network is the guest's end of the link to its host.
type Network struct {
	Interface string `json:"interface"`         // such as "eth0"; empty where none was found
	Up        bool   `json:"up"`                // with carrier
	Address   string `json:"address,omitempty"` // with the length of its prefix
	Gateway   string `json:"gateway,omitempty"` // of the default route
	Fault     string `json:"fault,omitempty"`   // in a person's words
}

// Clock says who keeps the guest's clock and how well.
type Clock struct {
	Source string `json:"source"` // "ptp", "port" (the host's server, without a network), "sntp" (the same, by network), "pool" (public ones) or, until a first answer, "config disk"
	Server string `json:"server,omitempty"`
	// Offset is how far the clock was from Source at LastSync, in seconds: positive where it was
	// behind.
	Offset   float64   `json:"offset"`
	LastSync time.Time `json:"last_sync,omitzero"`
	Fault    string    `json:"fault,omitempty"` // why it is not kept, in a person's words
}

// Tailnet is the node's place on its tailnet.
type Tailnet struct {
	// State is tailscaled's: "NoState", "NeedsLogin", "NeedsMachineAuth", "Stopped", "Starting",
	// "Running"; or TailnetOff where there is neither a key nor a state to start from.
	State     string    `json:"state"`
	Hostname  string    `json:"hostname,omitempty"` // name on the tailnet, which may carry a suffix
	ID        string    `json:"id,omitempty"`       // what the tailnet's administration calls the node; empty before it has joined
	Addresses []string  `json:"addresses,omitempty"`
	KeyExpiry time.Time `json:"key_expiry,omitzero"` // zero: never
	Online    bool      `json:"online"`              // the control server was heard of lately
	Fault     string    `json:"fault,omitempty"`     // in a person's words, with what to do
	// Old is the node that the machine was until its state was lost, and that no other machine is.
	Old *TailnetNode `json:"old_node,omitempty"`
	// Warning is what a person has to know of a node that is on its tailnet, with what to do.
	Warning string `json:"warning,omitempty"`
}

// A TailnetNode is a node as the tailnet's administration lists it.
type TailnetNode struct {
	ID   string `json:"id"`   // such as n5SUKe8CNTRL
	Name string `json:"name"` // without the tailnet's domain
}

// Node returns the node that the machine is; nil before it has joined.
func (t *Tailnet) Node() *TailnetNode {
	if t == nil || t.ID == "" {
		return nil
	}
	return &TailnetNode{ID: t.ID, Name: t.Hostname}
}

// Warn adds a warning, unless it is empty.
func (t *Tailnet) Warn(text string) {
	if t.Warning != "" && text != "" {
		t.Warning += "; "
	}
	t.Warning += text
}

// TailnetOff is the state of a node that was given no key.
const TailnetOff = "Off"

// Postgres is the database as a client of its own socket sees it.
type Postgres struct {
	Ready       bool   `json:"ready"`
	Version     string `json:"version,omitempty"` // server_version
	Connections int    `json:"connections"`       // of clients
	Fault       string `json:"fault,omitempty"`
	// Aside are settings of ALTER SYSTEM that were put aside, because the server did not start with
	// them.
	Aside []SettingsAside `json:"aside,omitempty"`
	// Ignored are settings of ALTER SYSTEM that have no effect: the machine itself sets them, on
	// the server's command line.
	Ignored []string `json:"ignored,omitempty"`
	// Kept are the databases from before upgrades, until somebody removes them.
	Kept []KeptCluster `json:"kept,omitempty"`
	// Authority is the certificate of the machine's own authority, in PEM, which has signed the
	// server's; empty: the server shows none of it.
	Authority string `json:"authority,omitempty"`
	// Public is set where the server is to show the certificate for the node's name on its tailnet.
	Public *PublicCertificate `json:"public_certificate,omitempty"`
}

// A PublicCertificate is one that a public authority has signed. The machine vouches for its name:
// Own, which its own authority has signed, has the name, too. While there is none, all is empty.
type PublicCertificate struct {
	Name      string `json:"name,omitempty"`      // with the tailnet's domain
	Authority string `json:"authority,omitempty"` // the machine's own, in PEM
	Own       string `json:"own,omitempty"`       // the certificate that the server would show otherwise, in PEM
}

// A SettingsAside is a file with settings of ALTER SYSTEM that are not in effect.
type SettingsAside struct {
	File     string   `json:"file"`               // in the guest
	Settings []string `json:"settings,omitempty"` // their names; absent: the file is damaged
}

// A KeptCluster are the databases from before an upgrade to another major version.
type KeptCluster struct {
	Major string `json:"major"` // version of PostgreSQL, such as "15"
	Path  string `json:"path"`  // its directory in the guest
	Size  int64  `json:"size"`  // bytes of its files, with those in tablespaces; 0: unknown
}

// Memory is the machine's, in bytes.
type Memory struct {
	Total     int64 `json:"total"`
	Available int64 `json:"available"` // could be had without swapping
}

// LUKS2 is what Data.Encryption says of disks that cryptsetup has encrypted.
const LUKS2 = "luks2"

// Data is the use of the data disk, or of a volume.
type Data struct {
	Path  string `json:"path"`            // where it is mounted
	Size  int64  `json:"size"`            // bytes of the file system
	Free  int64  `json:"free"`            // bytes that services may still write
	Fault string `json:"fault,omitempty"` // why it is not mounted
	// Encryption is the format of an encrypted disk, "luks2"; empty: it is not encrypted.
	Encryption string `json:"encryption,omitempty"`
	// OldKey says that the disk's old key still opens it, because the change to the new one failed.
	OldKey bool `json:"old_key,omitempty"`
	// Warning says that there is little room left, and what to do; it comes before PostgreSQL has
	// to stop.
	Warning string `json:"warning,omitempty"`
}

// A Volume is the use of one of the recipe's volumes.
type Volume struct {
	Name string `json:"name"`
	Data
}

// A Service is one supervised process.
type Service struct {
	Name       string    `json:"name"`
	State      string    `json:"state"`                 // one of the State constants
	Reason     string    `json:"reason,omitempty"`      // in a person's words, where State is not StateReady
	PID        int       `json:"pid,omitempty"`         // of the main process
	Restarts   int       `json:"restarts"`              // since boot
	ReadyIn    float64   `json:"ready_in,omitempty"`    // seconds from the kernel's start to the first time it was ready
	Since      time.Time `json:"since,omitzero"`        // when it entered State
	Failures   int       `json:"failures,omitempty"`    // ends in a row that nobody asked for
	LastOutput []string  `json:"last_output,omitempty"` // the last lines it printed, where State is not StateReady
	Schedule   *Schedule `json:"schedule,omitempty"`    // absent: it is kept running
	Backup     bool      `json:"backup,omitempty"`      // its data are part of backups
}

// A Schedule says when a service that is not kept running ran last and runs next.
type Schedule struct {
	LastStart time.Time `json:"last_start,omitzero"` // zero: it has not run since boot
	LastEnd   time.Time `json:"last_end,omitzero"`
	Result    string    `json:"result,omitempty"` // of the last run: "exit status 0", or what went wrong
	Failed    bool      `json:"failed,omitempty"` // the last run
	Next      time.Time `json:"next,omitzero"`
}

// States of a service.
const (
	StateWaiting   = "waiting"  // for the services it comes after
	StateStarting  = "starting" // preparing, or running and not ready yet
	StateReady     = "ready"
	StateDone      = "done"       // ran once, as it should
	StateBackoff   = "backoff"    // ended; will be started again
	StateLooping   = "crash-loop" // ends again and again; still tried, rarely
	StateOff       = "off"        // lacks what it is started for, such as a key: nothing waits for it
	StateFailed    = "failed"     // starting it again cannot help: a person has to look
	StateScheduled = "scheduled"  // runs at its times, or right now
	StateStopped   = "stopped"
)

// Ready reports whether nothing needs to wait for the service: it is ready, has done what it runs
// once for, or is not kept running.
func (s Service) Ready() bool {
	return slices.Contains([]string{StateReady, StateDone, StateOff, StateScheduled}, s.State)
}
