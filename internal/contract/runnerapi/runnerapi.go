// Package runnerapi has the formats of sov-runner's output for other programs: state.json, slots,
// versions, removals. state.json is replaced atomically. Package health has the formats of status,
// test and diagnose.
package runnerapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// Format is the version of State.
const Format = 1

// A Phase is the state of a machine in its daemon.
type Phase string

// Phases.
const (
	Down      Phase = "down"       // not running, and not in the phone's network
	Starting  Phase = "starting"   // the daemon prepares network and disks
	Booting   Phase = "booting"    // crosvm runs; the guest is not ready yet
	Ready     Phase = "ready"      // every service of the guest is ready
	NotReady  Phase = "not-ready"  // it was ready, or its start timed out; Reason says what is missing
	Stopping  Phase = "stopping"   // a clean shutdown is running
	Backoff   Phase = "backoff"    // it ended and will be restarted
	CrashLoop Phase = "crash-loop" // it ended repeatedly without becoming ready and is not restarted
	Failed    Phase = "failed"     // a restart cannot help: the user has to act
	Off       Phase = "off"        // the guest powered itself off
	Locked    Phase = "locked"     // it waits for the key of its data disk, which is not stored on the phone

	LowBattery Phase = "low-battery" // it was shut down because the battery is low, and will be restarted when that is charged enough
)

// A State is the state of a machine.
type State struct {
	Format    int       `json:"format"`
	Name      string    `json:"name"`
	Phase     Phase     `json:"phase"`
	Reason    string    `json:"reason,omitempty"`    // as a text, if Phase is not Ready
	Stuck     bool      `json:"stuck,omitempty"`     // the guest runs, but does not become ready without help
	Since     time.Time `json:"since,omitzero"`      // when it entered Phase
	Slot      string    `json:"slot,omitempty"`      // "a" or "b": what was started last
	Version   string    `json:"version,omitempty"`   // of that artifact
	WaitsFor  string    `json:"waits_for,omitempty"` // the machine of its group for which the start waits
	Trial     bool      `json:"trial,omitempty"`     // the slot was never ready; if it does not become ready, the other slot is started
	Runner    string    `json:"runner,omitempty"`    // the daemon's version
	BootID    string    `json:"boot_id,omitempty"`   // of the phone's kernel when this was written
	Daemon    int       `json:"daemon,omitempty"`    // process ID
	Crosvm    int       `json:"crosvm,omitempty"`    // process ID
	UID       int       `json:"uid,omitempty"`       // crosvm's user; 0: root
	AsRoot    string    `json:"as_root,omitempty"`   // on a phone, why crosvm runs as root
	InFile    string    `json:"in_file,omitempty"`   // why the secrets were in a file until the guest had read them
	StartedAt time.Time `json:"started_at,omitzero"` // last start of crosvm
	ReadyAt   time.Time `json:"ready_at,omitzero"`   // when the guest was last ready
	Restarts  int       `json:"restarts"`            // of crosvm, since the daemon started
	Failures  int       `json:"failures"`            // consecutive unrequested ends
	NextStart time.Time `json:"next_start,omitzero"` // if Phase is Backoff
	LastExit  *Exit     `json:"last_exit,omitempty"` //
	RollBack  *RollBack `json:"roll_back,omitempty"` // the last rollback of this daemon
	Network   Network   `json:"network"`             //
	Awake     *Awake    `json:"awake,omitempty"`     // absent: the machine is not running, or may sleep with the phone
	Warnings  []string  `json:"warnings,omitempty"`  // problems that do not stop the machine
}

// An Awake is the state of the wake lock.
type Awake struct {
	Mode  string `json:"mode"` // "always" or "charging"
	Held  bool   `json:"held"` // the wake lock is
	Fault string `json:"fault,omitempty"`
}

// An Exit is how a run of crosvm ended.
type Exit struct {
	Kind   string    `json:"kind"` // see package crosvm
	Code   int       `json:"code"` // exit status; -1 where a signal ended it
	Signal int       `json:"signal,omitempty"`
	Text   string    `json:"text"` // for people
	At     time.Time `json:"at"`
}

// Network is the machine's place in the phone's network.
type Network struct {
	TAP      string         `json:"tap,omitempty"`
	Host     netip.Prefix   `json:"host,omitzero"`
	Guest    netip.Prefix   `json:"guest,omitzero"`
	Routing  string         `json:"routing,omitempty"`  // the mode that it stands in
	Reason   string         `json:"reason,omitempty"`   // why that mode, for people
	Warnings []string       `json:"warnings,omitempty"` // what it takes from others on the phone, or does not keep from them, a sentence each
	Uplink   string         `json:"uplink,omitempty"`   // interface, gateway and table; empty: none
	Fault    string         `json:"fault,omitempty"`    // why it is not as it should be
	Endpoint netip.AddrPort `json:"endpoint,omitzero"`
	Database netip.AddrPort `json:"database,omitzero"` // PostgreSQL's, where the machine publishes one
	// Published are the guest's ports that others than the phone's root may reach.
	Published []vmspec.Port `json:"published,omitempty"`
}

// A RollBack is a return from a version that did not work to the one before.
type RollBack struct {
	From    string    `json:"from"`    // slot
	Version string    `json:"version"` // in that slot
	To      string    `json:"to"`      // slot
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// A Slot is one of the two places for an artifact, as `sov-runner slots --json` lists them.
type Slot struct {
	Slot    string    `json:"slot"`              // "a" or "b"
	Current bool      `json:"current"`           // it is what is started
	Version string    `json:"version,omitempty"` // the artifact's
	Digest  string    `json:"digest,omitempty"`  // SHA-256 of its manifest.json, in hexadecimal digits
	State   SlotState `json:"state"`

	SignedBy string    `json:"signed_by,omitempty"` // ID of the key that signed the artifact; empty: it is not signed
	Serial   int64     `json:"serial,omitempty"`    // of that signature
	Reason   string    `json:"reason,omitempty"`    // where State is SlotBad or SlotBroken
	Starts   int       `json:"starts,omitempty"`    // where State is SlotNew: how often it was started and did not become ready
	Since    time.Time `json:"since,omitzero"`      // when it entered State, where that was noted
}

// A SlotState is what is known of a slot's artifact.
type SlotState string

// States of slots.
const (
	SlotEmpty  SlotState = "empty"  // it holds nothing
	SlotNew    SlotState = "new"    // it has not been ready yet
	SlotGood   SlotState = "good"   // it has been ready
	SlotBad    SlotState = "bad"    // it was tried and given up
	SlotBroken SlotState = "broken" // it is not whole
)

// A Version is what `sov-runner version --json` prints.
type Version struct {
	Version     string `json:"version"`           // of the program's content: no two programs share it
	Release     string `json:"release,omitempty"` // of sov, such as v1.2.0; empty: it is no release's
	Arch        string `json:"arch"`
	StateFormat int    `json:"state_format"` // Format
}

// A Removal is what `sov-runner remove --json` prints.
type Removal struct {
	Name    string   `json:"name"`
	Found   bool     `json:"found"`   // there was something of the machine to remove
	Removed []string `json:"removed"` // paths
	Kept    []string `json:"kept"`    // paths of what is the user's

	// Tailnet says what became of the machine's node on its tailnet; empty: it had none, or its
	// data stay.
	Tailnet string `json:"tailnet,omitempty"`

	Left []string `json:"left,omitempty"` // with --force: what could not be undone or removed, and why
}

// NewRemoval returns a removal that has done nothing.
func NewRemoval(name string) Removal {
	return Removal{Name: name, Removed: []string{}, Kept: []string{}}
}

// Decode reads a state file.
func Decode(src []byte) (*State, error) {
	s := new(State)
	if err := json.Unmarshal(src, s); err != nil {
		return nil, fmt.Errorf("state.json: %w", err)
	}
	if s.Format != Format {
		return nil, fmt.Errorf("state.json: its format is %d, this program reads %d", s.Format, Format)
	}
	return s, nil
}
