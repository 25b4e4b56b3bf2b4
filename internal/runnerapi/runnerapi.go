// Package runnerapi is what sov-runner tells other programs: the content of state.json, which `sov-runner status --json`
// prints too. Whoever reads state.json sees a whole file, the last one or the next.
package runnerapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/sovereign-sql/sov/internal/guestapi"
)

// Format is the version of State.
const Format = 1

// A Phase is a part of a machine's life, as its daemon sees it.
type Phase string

// Phases.
const (
	Down      Phase = "down"       // nothing runs and nothing of the machine is in the phone's network
	Starting  Phase = "starting"   // the daemon prepares network and disks
	Booting   Phase = "booting"    // crosvm runs; the guest is not ready yet
	Ready     Phase = "ready"      // every service of the guest is ready
	NotReady  Phase = "not-ready"  // it was ready, or should be by now; Reason says what is missing
	Stopping  Phase = "stopping"   // an orderly shutdown is under way
	Backoff   Phase = "backoff"    // it ended and will be started again
	CrashLoop Phase = "crash-loop" // it ended again and again without becoming ready and is left alone
	Failed    Phase = "failed"     // starting it again cannot help: a person has to look
	Off       Phase = "off"        // the guest powered itself off
)

// A State is how a machine is.
type State struct {
	Format    int       `json:"format"`
	Name      string    `json:"name"`
	Phase     Phase     `json:"phase"`
	Reason    string    `json:"reason,omitempty"`    // in a person's words, where Phase is not Ready
	Since     time.Time `json:"since"`               // when it entered Phase
	Slot      string    `json:"slot,omitempty"`      // "a" or "b": what was started last
	Version   string    `json:"version,omitempty"`   // of that artifact
	Runner    string    `json:"runner,omitempty"`    // the daemon's version
	BootID    string    `json:"boot_id,omitempty"`   // of the phone's kernel when this was written
	Daemon    int       `json:"daemon,omitempty"`    // process ID
	Crosvm    int       `json:"crosvm,omitempty"`    // process ID
	StartedAt time.Time `json:"started_at,omitzero"` // crosvm, last
	ReadyAt   time.Time `json:"ready_at,omitzero"`   // the guest, last
	Restarts  int       `json:"restarts"`            // of crosvm, since the daemon started
	Failures  int       `json:"failures"`            // ends in a row that nobody asked for
	NextStart time.Time `json:"next_start,omitzero"` // where Phase is Backoff
	LastExit  *Exit     `json:"last_exit,omitempty"` //
	Network   Network   `json:"network"`             //
	Warnings  []string  `json:"warnings,omitempty"`  // what does not keep it from running
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
	Routing  string         `json:"routing,omitempty"`
	Uplink   string         `json:"uplink,omitempty"` // interface, gateway and table; empty: none
	Fault    string         `json:"fault,omitempty"`  // why it is not as it should be
	Endpoint netip.AddrPort `json:"endpoint,omitzero"`
}

// A Status is what `sov-runner status --json` prints.
type Status struct {
	State
	DaemonAlive bool             `json:"daemon_alive"`
	CrosvmAlive bool             `json:"crosvm_alive"`
	Guest       *guestapi.Status `json:"guest,omitempty"`       // nil: it did not answer
	GuestFault  string           `json:"guest_fault,omitempty"` // why
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
