// Package lightguest simulates a guest without a kernel, which boots within milliseconds, for tests
// of the host. The guest answers ARP, serves the endpoint of package guestapi with the token from
// its config disk, listens on PostgreSQL's port, connects to the network through the host, and ends
// as its script or a line received at LifePort specifies.
//
// The guest is a process in a separate network namespace. The simulated phone starts it (Serve),
// because the stand-in for crosvm may lack the permissions. The stand-in exchanges Ethernet frames
// with the guest (Start), and the guest ends with the stand-in.
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

// A Script defines a guest's behaviour. Its JSON form replaces the kernel's file.
type Script struct {
	Ready   time.Duration     `json:"ready"`             // from the start until its service is ready; negative: never
	Tailnet *guestapi.Tailnet `json:"tailnet,omitempty"` // the tailnet status that it reports
	Deaf    []string          `json:"deaf,omitempty"`    // shutdown requests that it ignores: "guest", "console", "stop"; "endpoint": its endpoint does not listen
	Early   string            `json:"early,omitempty"`   // output on its early console
	End     End               `json:"end,omitempty"`     // the guest ends immediately in this way
	Data    map[string]string `json:"data,omitempty"`    // data by service name, for backups
}

// IsDeaf reports whether the guest ignores a shutdown request.
func (s Script) IsDeaf(request string) bool { return slices.Contains(s.Deaf, request) }

// An End is the way in which a guest ends.
type End string

// Ends of guests.
const (
	Off         End = "off"          // it powers off
	Reset       End = "reset"        // it reboots
	Panic       End = "panic"        // its kernel panics and has a driver for crosvm's pvpanic device
	BarePanic   End = "bare-panic"   // its kernel panics, without that driver: crosvm sees a reboot
	Crash       End = "crash"        // its processor cannot continue
	Watchdog    End = "watchdog"     // its processors hang
	SystemCrash End = "system-crash" // the hypervisor terminates it: crosvm handles this as a power-off
	Cut         End = "cut"          // crosvm was told to stop
	Failed      End = "failed"       // crosvm cannot start it
	Refused     End = "refused"      // crosvm rejects its arguments
)

// LastWords returns what a guest's kernel writes to its console at an end (kernel/reboot.c,
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

// Load reads the script from a kernel's file. It returns nil if the file is not a script.
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
