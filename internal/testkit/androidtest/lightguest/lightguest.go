// Package lightguest simulates a guest without a kernel, which boots within milliseconds, for tests
// of the host's side. It answers ARP, serves the endpoint of package guestapi with the token from
// its config disk, listens at PostgreSQL's port, connects to the network through the host, and ends
// as its script, or a line received at LifePort, says.
//
// The guest itself is a process in a network namespace of its own, which the simulated phone starts
// (Serve): the stand-in for crosvm may have no right to any of that. The two are joined frame by
// frame, and the guest ends with the stand-in (Start).
package lightguest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// A Script says how a guest lives. As JSON, it stands in the place of a kernel.
type Script struct {
	Ready   time.Duration     `json:"ready"`             // from the start until its service is ready; negative: never
	Tailnet *guestapi.Tailnet `json:"tailnet,omitempty"` // what it tells of its tailnet
	Deaf    []string          `json:"deaf,omitempty"`    // requests to end that it ignores: "guest", "console", "stop"; "endpoint": it never answers there
	Early   string            `json:"early,omitempty"`   // what it writes to its early console
	End     End               `json:"end,omitempty"`     // it ends at once like this
	Data    map[string]string `json:"data,omitempty"`    // of services, by their names: what backups save
}

// IsDeaf tells whether the guest ignores a request to end.
func (s Script) IsDeaf(request string) bool { return slices.Contains(s.Deaf, request) }

// An End is how a guest ends.
type End string

// Ends of guests.
const (
	Off         End = "off"          // it powers off
	Reset       End = "reset"        // it reboots
	Panic       End = "panic"        // its kernel panics, and has a driver for crosvm's pvpanic device
	BarePanic   End = "bare-panic"   // its kernel panics, without that driver: crosvm sees a reboot
	Crash       End = "crash"        // its processor cannot continue
	Watchdog    End = "watchdog"     // its processors stand still
	SystemCrash End = "system-crash" // the hypervisor gives it up: crosvm takes that for a power-off
	Cut         End = "cut"          // crosvm was told to stop
	Failed      End = "failed"       // crosvm cannot start it
	Refused     End = "refused"      // crosvm does not understand what it is told
)

// LastWords is what a guest's kernel writes to its console at an end (kernel/reboot.c,
// kernel/panic.c).
func LastWords(e End) string {
	switch e {
	case Off:
		return "[   10.000000] reboot: Power down\n"
	case Reset:
		return "[   10.000000] reboot: Restarting system\n"
	case Panic, BarePanic:
		return "[   10.000000] Kernel panic - not syncing: the script says so\n"
	}
	return ""
}

// maxScript bounds a script, in bytes.
const maxScript = 64 << 10

// Load reads the script from a kernel's file. It returns nil when that holds a real kernel.
func Load(f *os.File) (*Script, error) {
	info, err := f.Stat()
	if err != nil || info.Size() > maxScript {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxScript))
	if err != nil || !bytes.HasPrefix(text, []byte("{")) {
		return nil, err
	}
	s := new(Script)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return s, nil
}
