// Package guestapi is the API of the guest's HTTP endpoint: the paths and JSON formats, which
// sov-init implements (package guest), and the client for the programs that run a machine (sov run,
// the runner on a phone).
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
// Requests with a missing or wrong token get 401, or 429 if there are many of them. The status is
// 409, with the reason, if there is nothing to back up, the database is not ready, or another
// backup or restore is running.
package guestapi

import (
	"slices"
	"time"
)

// StatusTime is how long the guest waits for services to compose a status; services that take
// longer are reported as not answering. Clients must wait longer.
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

// NoShell is the response to PathSession, with status 404, of a guest without sessions.
const NoShell = "its recipe leaves shells out (vm.shell: false)"

// The guest's second console, hvc1, accepts requests as lines, without the network.
const (
	ConsoleDevice   = "/dev/hvc1" // in the guest
	ConsoleShutdown = "shutdown"  // the line with the effect of PathShutdown
)

// Keys of the query for PathLogs.
const (
	QueryService = "service"
	QueryLines   = "lines"
	QueryFollow  = "follow"
)

// QueryDo is the query key for PathUpgrade: guestspec.DoUpgrade and others.
const QueryDo = "do"

// A Status is the guest's status.
type Status struct {
	Image    string    `json:"image"`              // the recipe's name
	Version  string    `json:"version"`            // of the image
	Hostname string    `json:"hostname"`           //
	BootID   string    `json:"boot_id"`            // /proc/sys/kernel/random/boot_id, different for each boot
	Kernel   string    `json:"kernel"`             // release, as uname -r
	Time     time.Time `json:"time"`               // the guest's clock when it answered
	Uptime   float64   `json:"uptime"`             // seconds since the kernel started
	Ready    bool      `json:"ready"`              // every service is ready, done, scheduled or off
	Stopping bool      `json:"stopping"`           // a shutdown is under way
	Data     Data      `json:"data"`               //
	Volumes  []Volume  `json:"volumes,omitempty"`  // in the recipe's order
	Services []Service `json:"services"`           // in order of name
	Memory   Memory    `json:"memory"`             //
	Problems []string  `json:"problems,omitempty"` // errors at boot that impair the guest
	Orphans  int       `json:"orphans"`            // reaped orphans
	Network  *Network  `json:"network,omitempty"`  // nil: unknown
	Clock    *Clock    `json:"clock,omitempty"`    // nil: the clock is not synchronized
	Tailnet  *Tailnet  `json:"tailnet,omitempty"`  // nil: the image does not have Tailscale
	Postgres *Postgres `json:"postgres,omitempty"` // nil: the image does not have PostgreSQL
}

// Network is the guest's end of the link to its host.
type Network struct {
	Interface string `json:"interface"`         // such as "eth0"; empty where none was found
	Up        bool   `json:"up"`                // with carrier
	Address   string `json:"address,omitempty"` // with the length of its prefix
	Gateway   string `json:"gateway,omitempty"` // of the default route
	Fault     string `json:"fault,omitempty"`   // in a person's words
}

// Clock is the state of the guest's clock.
type Clock struct {
	Source string `json:"source"` // "ptp", "port" (the host's server, without a network), "sntp" (the same, by network), "pool" (public ones) or, until a first answer, "config disk"
	Server string `json:"server,omitempty"`
	// Offset is how far the clock was from Source at LastSync, in seconds: positive where it was
	// behind.
	Offset   float64   `json:"offset"`
	LastSync time.Time `json:"last_sync,omitzero"`
	Fault    string    `json:"fault,omitempty"` // why it is not synchronized, as a text
}

// Tailnet is the node's state on its tailnet.
type Tailnet struct {
	// State is tailscaled's: "NoState", "NeedsLogin", "NeedsMachineAuth", "Stopped", "Starting",
	// "Running"; or TailnetOff if there is neither a key nor a state.
	State     string    `json:"state"`
	Hostname  string    `json:"hostname,omitempty"` // name on the tailnet, possibly with a suffix
	ID        string    `json:"id,omitempty"`       // the node's ID in the tailnet; empty before it has joined
	Addresses []string  `json:"addresses,omitempty"`
	KeyExpiry time.Time `json:"key_expiry,omitzero"` // zero: never
	Online    bool      `json:"online"`              // the control server has answered recently
	Fault     string    `json:"fault,omitempty"`     // as a text, with what to do
	// Old is the machine's previous node, if its state was lost and no other machine is that node.
	Old *TailnetNode `json:"old_node,omitempty"`
	// Warning is a warning about a node that is on its tailnet, with what to do.
	Warning string `json:"warning,omitempty"`
}

// A TailnetNode is a node in the list of the tailnet's nodes.
type TailnetNode struct {
	ID   string `json:"id"`   // such as n5SUKe8CNTRL
	Name string `json:"name"` // without the tailnet's domain
}

// Node returns the machine's node, or nil before it has joined.
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

// TailnetOff is the state of a node without a key.
const TailnetOff = "Off"

// Postgres is the database's state, read through its own socket.
type Postgres struct {
	Ready       bool   `json:"ready"`
	Version     string `json:"version,omitempty"` // server_version
	Connections int    `json:"connections"`       // of clients
	Fault       string `json:"fault,omitempty"`
	// Aside are settings of ALTER SYSTEM that were put aside, because the server did not start with
	// them.
	Aside []SettingsAside `json:"aside,omitempty"`
	// Ignored are ALTER SYSTEM settings without effect: the machine sets them on the server's
	// command line.
	Ignored []string `json:"ignored,omitempty"`
	// Kept are the databases from before upgrades, until the user removes them.
	Kept []KeptCluster `json:"kept,omitempty"`
	// Authority is the machine's CA certificate, in PEM, which has signed the server's; empty if
	// the server uses another certificate or none.
	Authority string `json:"authority,omitempty"`
	// Public is set if the server is configured to use the tailnet's certificate.
	Public *PublicCertificate `json:"public_certificate,omitempty"`
}

// A PublicCertificate describes a certificate of a public authority. The machine's own authority
// confirms its name: Own contains the name too. All fields are empty while there is none.
type PublicCertificate struct {
	Name      string `json:"name,omitempty"`      // including the tailnet's domain
	Authority string `json:"authority,omitempty"` // the machine's own, in PEM
	Own       string `json:"own,omitempty"`       // the machine's own certificate, in PEM
}

// A SettingsAside is a file with settings of ALTER SYSTEM that are not in effect.
type SettingsAside struct {
	File     string   `json:"file"`               // in the guest
	Settings []string `json:"settings,omitempty"` // their names; absent: the file is damaged
}

// A KeptCluster is a cluster from before an upgrade to another major version.
type KeptCluster struct {
	Major string `json:"major"` // PostgreSQL's major version, such as "15"
	Path  string `json:"path"`  // its directory in the guest
	Size  int64  `json:"size"`  // bytes of its files, including tablespaces; 0: unknown
}

// Memory is the machine's, in bytes.
type Memory struct {
	Total     int64 `json:"total"`
	Available int64 `json:"available"` // available without swapping
}

// LUKS2 is the value of Data.Encryption for disks that cryptsetup has encrypted.
const LUKS2 = "luks2"

// Data is the state of the data disk, or of a volume.
type Data struct {
	Path  string `json:"path"`            // where it is mounted
	Size  int64  `json:"size"`            // bytes of the file system
	Free  int64  `json:"free"`            // bytes that services may still write
	Fault string `json:"fault,omitempty"` // why it is not mounted
	// Encryption is the format of an encrypted disk, "luks2"; empty: it is not encrypted.
	Encryption string `json:"encryption,omitempty"`
	// OldKey says that the disk's old key still opens it, because the change to the new one failed.
	OldKey bool `json:"old_key,omitempty"`
	// Warning says that little space is left, and what to do, before PostgreSQL has to stop.
	Warning string `json:"warning,omitempty"`
}

// A Volume is the state of one of the recipe's volumes.
type Volume struct {
	Name string `json:"name"`
	Data
}

// A Service is one supervised process.
type Service struct {
	Name       string    `json:"name"`
	State      string    `json:"state"`                 // one of the State constants
	Reason     string    `json:"reason,omitempty"`      // as a text, if State is not StateReady
	PID        int       `json:"pid,omitempty"`         // of the main process
	Restarts   int       `json:"restarts"`              // since boot
	ReadyIn    float64   `json:"ready_in,omitempty"`    // seconds from the kernel's start to the first time it was ready
	Since      time.Time `json:"since,omitzero"`        // when it entered State
	Failures   int       `json:"failures,omitempty"`    // consecutive unrequested ends
	LastOutput []string  `json:"last_output,omitempty"` // the last lines of output, if State is not StateReady
	Schedule   *Schedule `json:"schedule,omitempty"`    // absent: it runs continuously
	Backup     bool      `json:"backup,omitempty"`      // backups include its data
}

// A Schedule has the last and the next run of a scheduled service.
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
	StateDone      = "done"       // ran once, successfully
	StateBackoff   = "backoff"    // ended; will be started again
	StateLooping   = "crash-loop" // ends again and again; still tried, rarely
	StateOff       = "off"        // not started, for example without a key; other services do not wait for it
	StateFailed    = "failed"     // a restart cannot help: the user has to act
	StateScheduled = "scheduled"  // waits for its next run, or is running
	StateStopped   = "stopped"
)

// Ready reports whether other services need not wait for the service: it is ready, done, off or
// scheduled.
func (s Service) Ready() bool {
	return slices.Contains([]string{StateReady, StateDone, StateOff, StateScheduled}, s.State)
}
