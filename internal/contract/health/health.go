// Package health is the model of a machine's health: its phase, layers, services, disks, database,
// backup, certificate, network and power. `sov status`, `sov test` and `sov diagnose` print it,
// with --json unchanged; the guest's metrics are derived from it. docs/health.schema.json is its
// JSON Schema.
package health

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/finding"
)

// Format is the version of a Machine's JSON. Fields are added under the same version.
const Format = 2

// A Machine is the health of one machine on a phone.
type Machine struct {
	// State is the last state that the machine's daemon wrote; its fields are embedded in the
	// object. If the daemon was killed, phase and reason are corrected.
	runnerapi.State
	Format      int              `json:"format"`          // Format
	Asked       time.Time        `json:"asked,omitzero"`  // the phone's time of the request
	Slots       []runnerapi.Slot `json:"slots,omitempty"` // both, a and b
	DaemonAlive bool             `json:"daemon_alive"`
	CrosvmAlive bool             `json:"crosvm_alive"`

	Guest       *Guest             `json:"guest,omitempty"`       // absent: the guest did not answer
	GuestFault  string             `json:"guest_fault,omitempty"` // why the guest did not answer
	Services    []guestapi.Service `json:"services,omitempty"`    // in order of name
	Disks       []Disk             `json:"disks,omitempty"`
	Database    *Database          `json:"database,omitempty"`    // absent: the machine does not have PostgreSQL, or the guest did not answer
	Tailnet     *guestapi.Tailnet  `json:"tailnet,omitempty"`     // absent: the image does not have Tailscale, or the guest did not answer
	Backup      *Backup            `json:"backup,omitempty"`      // the last one; absent: none is known on this phone
	Certificate *Certificate       `json:"certificate,omitempty"` // of the database; absent: it does not offer TLS
	Power       *Power             `json:"power,omitempty"`       // absent: unknown
	Thermal     []Zone             `json:"thermal,omitempty"`     // the temperatures of the phone's kernel
	Phone       *Phone             `json:"phone,omitempty"`       // the phone

	Layers []finding.Finding `json:"layers,omitempty"` // what diagnose and test found: the nine layers in their order
	Cause  string            `json:"cause,omitempty"`  // the check of the first failed layer; absent: none failed
	Checks []finding.Finding `json:"checks,omitempty"` // what test found
	Fixed  []string          `json:"fixed,omitempty"`  // what diagnose --fix did
}

// A Guest is the guest's own status.
type Guest struct {
	Image    string            `json:"image"`              // the recipe's name
	Version  string            `json:"version"`            // of the image
	Hostname string            `json:"hostname"`           //
	BootID   string            `json:"boot_id"`            // changes with each boot
	Kernel   string            `json:"kernel"`             // release, as uname -r prints it
	Time     time.Time         `json:"time"`               // the guest's clock when it answered
	Uptime   float64           `json:"uptime"`             // seconds since the kernel started
	Ready    bool              `json:"ready"`              // every service is ready (or, if it runs once, done)
	Stopping bool              `json:"stopping"`           // a shutdown is under way
	Memory   guestapi.Memory   `json:"memory"`             //
	Problems []string          `json:"problems,omitempty"` // errors at boot that impair the guest
	Orphans  int               `json:"orphans"`            // reaped orphans
	Network  *guestapi.Network `json:"network,omitempty"`  // the guest's end of the link
	Clock    *guestapi.Clock   `json:"clock,omitempty"`    // absent: the clock is not synchronized
}

// DataDisk is the name of the data disk, which no volume has.
const DataDisk = "data"

// A Disk is a disk with the machine's data.
type Disk struct {
	Name string `json:"name"` // DataDisk, or that of a volume
	guestapi.Data
	// Allocated is the disk space of the disk's file on the phone, in bytes. 0: unknown.
	Allocated int64 `json:"allocated,omitempty"`
}

// A Database is the machine's PostgreSQL.
type Database struct {
	guestapi.Postgres
	Address netip.AddrPort   `json:"address,omitzero"`  // on the phone's side of the network
	Tailnet []netip.AddrPort `json:"tailnet,omitempty"` // on the tailnet
}

// A Backup is the last backup that a computer saved of the machine on this phone.
type Backup struct {
	At        time.Time `json:"at"`                 // when the backup was complete, by the phone's clock
	Size      int64     `json:"size"`               // of its file, in bytes
	Databases []string  `json:"databases"`          // that it holds
	Services  []string  `json:"services,omitempty"` // whose data it holds
}

// Holds describes the content of the backup.
func (b *Backup) Holds() string {
	var text []string
	switch n := len(b.Databases); {
	case n == 1:
		text = append(text, "1 database")
	case n > 0 || len(b.Services) == 0:
		text = append(text, fmt.Sprintf("%d databases", n))
	}
	switch len(b.Services) {
	case 0:
	case 1:
		text = append(text, "service "+b.Services[0])
	default:
		text = append(text, "services "+strings.Join(b.Services, ", "))
	}
	return strings.Join(text, ", ")
}

// A Certificate describes a server's certificate.
type Certificate struct {
	Subject   string    `json:"subject"` // as RFC 2253 writes it
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Power is the phone's power supply.
type Power struct {
	Battery  int  `json:"battery"`  // charge in percent
	Charging bool `json:"charging"` // on an external supply: the battery charges, or is full
}

// A Zone is a temperature of the phone's kernel.
type Zone struct {
	Type string `json:"type"` // the vendor's name for the zone
	Temp string `json:"temp"` // unchanged; the unit depends on the vendor
}

// A Phone describes the phone.
type Phone struct {
	Android     string   `json:"android,omitempty"`      // release, such as "15"; absent: another Linux
	Kernel      string   `json:"kernel"`                 // release, as uname -r prints it
	RootManager []string `json:"root_manager,omitempty"` // installed ones: "Magisk", "KernelSU", "APatch"
	Hypervisor  string   `json:"hypervisor,omitempty"`   // ro.boot.hypervisor.version
}

// New returns an empty health of a machine.
func New(name string) *Machine {
	return &Machine{State: runnerapi.State{Name: name}, Format: Format}
}

// AddGuest adds a guest's status to the model.
func (m *Machine) AddGuest(s *guestapi.Status) {
	m.Guest = &Guest{
		Image: s.Image, Version: s.Version, Hostname: s.Hostname, BootID: s.BootID, Kernel: s.Kernel, Time: s.Time, Uptime: s.Uptime,
		Ready: s.Ready, Stopping: s.Stopping, Memory: s.Memory, Problems: s.Problems, Orphans: s.Orphans, Network: s.Network, Clock: s.Clock,
	}
	m.Services, m.Tailnet = s.Services, s.Tailnet
	m.Disks = []Disk{{Name: DataDisk, Data: s.Data}}
	for _, v := range s.Volumes {
		m.Disks = append(m.Disks, Disk{Name: v.Name, Data: v.Data})
	}
	if s.Postgres != nil {
		m.Database = &Database{Postgres: *s.Postgres}
	}
}

// Service returns the named service, or nil.
func (m *Machine) Service(name string) *guestapi.Service {
	for i := range m.Services {
		if m.Services[i].Name == name {
			return &m.Services[i]
		}
	}
	return nil
}
