// Package vmspec is the format of vm.json, the machine's description for the program that starts it
// (the runner on a phone, sov run on a computer): disks in order, memory, processors, kernel
// parameters, the network link, and the check of readiness.
//
// The file does not depend on the host. Host name, clock, secrets and the token of a boot are on
// the config disk, which is written at each start.
package vmspec

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/avf"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/strictjson"
)

// Format is the version written and read. It changes when an older reader would
// start a machine wrongly.
const Format = 1

// StatusPort is the TCP port of the guest's status endpoint.
const StatusPort = guestspec.EndpointPort

// RootDevice is the guest's device of the first disk, which has the root file system.
const RootDevice = "/dev/vda"

// A Spec is the content of vm.json.
type Spec struct {
	Format     int      `json:"format"`
	Name       string   `json:"name"`
	Arch       string   `json:"arch"`       // "arm64" or "amd64"
	Kernel     string   `json:"kernel"`     // file beside vm.json
	Parameters []string `json:"parameters"` // kernel command line, in order
	MemoryMiB  int      `json:"memory_mib"`
	CPUs       int      `json:"cpus"`
	Disks      []Disk   `json:"disks"` // attached in order: vda, vdb, vdc, and on
	Network    Network  `json:"network"`
	Ports      []Port   `json:"ports"` // what the guest offers
	Ready      Ready    `json:"ready"`
	// Postgres describes the roles of the database; nil in artifacts of earlier versions, or
	// without a database.
	Postgres *Postgres `json:"postgres,omitempty"`
	// Secrets lists the secrets that services need: those in the recipe, and passwords of roles.
	Secrets     []Secret `json:"secrets,omitempty"`
	Awake       Awake    `json:"awake,omitempty"` // while it runs; empty: AwakeAlways
	avf.Options          // options for a phone's hypervisor
}

// An Awake says when a running machine prevents the phone from sleeping.
type Awake string

// Values of Awake.
const (
	AwakeAlways   Awake = "always"
	AwakeCharging Awake = "charging" // while the phone is being charged
	AwakeNever    Awake = "never"    // the guest is suspended while the phone sleeps
)

// Valid reports whether a is empty or one of those.
func (a Awake) Valid() bool {
	return a == "" || a == AwakeAlways || a == AwakeCharging || a == AwakeNever
}

// A Disk is one virtio block device.
type Disk struct {
	Role     Role   `json:"role"`
	File     string `json:"file,omitempty"` // beside vm.json; only of RoleRootfs
	ReadOnly bool   `json:"read_only"`
	Name     string `json:"name,omitempty"` // only for RoleVolume: the guest finds the disk by it
	Size     int64  `json:"size,omitempty"` // bytes to make it with; only of RoleData and RoleVolume
	// Key is where the key of an encrypted disk is stored, the same for all disks; only for
	// RoleData and RoleVolume. Empty if the disk is not encrypted.
	Key KeyPlace `json:"key,omitempty"`
}

// A KeyPlace is where the key of a machine's encrypted disks is stored.
type KeyPlace string

// Places of keys. In both cases the installing computer also has the key.
const (
	KeyOnPhone KeyPlace = "phone" // with the phone's other secrets
	KeyOnHost  KeyPlace = "host"  // in the phone's memory until it is switched off
)

// A Role is a disk's purpose, and determines who creates it.
type Role string

// Roles of disks.
const (
	RoleRootfs Role = "rootfs" // the image, part of the artifact
	RoleData   Role = "data"   // made once by the starter, ext4 with a journal, kept
	RoleConfig Role = "config" // made by the starter at each start, see package configdisk
	RoleVolume Role = "volume" // as RoleData; a machine may have several, each with a name
)

// A Network is the link between host and guest.
type Network struct {
	TAP      string       `json:"tap"`      // name of the host's interface
	Host     netip.Prefix `json:"host"`     // the host's address and prefix length
	Guest    netip.Prefix `json:"guest"`    // the guest's
	MTU      int          `json:"mtu"`      // bytes
	DNS      []netip.Addr `json:"dns"`      // name servers for the guest
	Hostname string       `json:"hostname"` // for the config disk
	Routing  Routing      `json:"routing"`  // how a phone routes the guest's packets
	// RoutingUnset says that the recipe does not set a mode: the phone keeps that of a previous
	// version.
	RoutingUnset bool `json:"routing_unset,omitempty"`
	// Peers are names of other machines on the same host whose guests may communicate with this
	// guest. Both machines must name each other.
	Peers []string `json:"peers,omitempty"`
	// Group is a group's name: all machines of the host with the same group are peers.
	Group string `json:"group,omitempty"`
	// After lists machines of the group that must be ready before this one starts, if they are also
	// being started.
	After []string `json:"after,omitempty"`
	// AddressUnset says that the recipe does not set addresses: a phone chooses and keeps an unused
	// pair in Pools, preferably Host and Guest.
	AddressUnset bool `json:"address_unset,omitempty"`
	// Phone are TCP ports of the guest that the phone's apps may reach.
	Phone []int `json:"phone,omitempty"`
	// Egress lists what the guest may reach in addition to the internet: EgressLAN, EgressPhone.
	Egress []string `json:"egress,omitempty"`
}

// Values of Network.Egress.
const (
	EgressLAN   = "lan"   // private networks by the phone's uplink
	EgressPhone = "phone" // the phone's own ports
)

// FirstHost is the host's address that a phone tries first for a machine whose recipe does not set
// one.
var FirstHost = netip.MustParsePrefix("192.168.100.1/24")

// Pools hold the addresses that a phone chooses from, a network of 24 bits for each machine, in the
// order in which they are tried: two private networks (RFC 1918) that home and company networks
// seldom use.
var Pools = []netip.Prefix{netip.MustParsePrefix("192.168.96.0/19"), netip.MustParsePrefix("10.213.0.0/19")}

// PrivateNetworks are the addresses of networks that are not the internet, which a guest reaches
// with EgressLAN only: private ones (RFC 1918), link-local (RFC 3927), a carrier's own (RFC 6598),
// and groups (RFC 5771).
var PrivateNetworks = []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "224.0.0.0/4"}

// A Routing is the mode of a phone's policy routing for a guest; see package network.
type Routing string

// Routing modes.
const (
	Auto      Routing = "auto"       // Scoped, or MainFirst if a round trip works only with that
	MainFirst Routing = "main-first" // all packets of the phone use the table main first
	Scoped    Routing = "scoped"     // affects only the guest's packets
)

// Valid reports whether r is one of the modes.
func (r Routing) Valid() bool { return r == Auto || r == MainFirst || r == Scoped }

// Subnet is the prefix that both ends are in.
func (n Network) Subnet() netip.Prefix { return n.Host.Masked() }

// A Port is a port of the guest that the host may offer.
type Port struct {
	Service  string `json:"service"` // the service behind it, "" when not known
	Port     int    `json:"port"`
	Protocol string `json:"protocol,omitempty"`  // "udp"; empty: TCP
	HostPort int    `json:"host_port,omitempty"` // the number under which the host offers it; 0: the same
	Forward  bool   `json:"forward,omitempty"`   // also offered at the phone's own address on its uplink
}

// UDP reports whether the port is one of UDP.
func (p Port) UDP() bool { return p.Protocol == guestspec.UDP }

// Transport is the port's protocol in words.
func (p Port) Transport() string { return cmp.Or(p.Protocol, guestspec.TCP) }

// Offered is the number under which the host offers the port.
func (p Port) Offered() int { return cmp.Or(p.HostPort, p.Port) }

// String returns the port's name in flags and messages: its service or its number, with "/udp" for
// UDP.
func (p Port) String() string {
	name := cmp.Or(p.Service, strconv.Itoa(p.Port))
	if p.UDP() {
		name += "/" + p.Protocol
	}
	return name
}

// Postgres describes the roles that log in to the database over the network.
type Postgres struct {
	// Superuser is where the role postgres may log in from: "host" or "anywhere"; empty means
	// anywhere, by default.
	Superuser string  `json:"superuser,omitempty"`
	Logins    []Login `json:"logins,omitempty"` // besides postgres, in the recipe's order
}

// SuperuserFromHost is the value of Postgres.Superuser that allows the role postgres only from the
// host's address.
const SuperuserFromHost = "host"

// A Login is a role that logs in with a password.
type Login struct {
	Role     string `json:"role"`
	Database string `json:"database"` // where it works
	Secret   string `json:"secret"`   // the name of the secret with its password
}

// A Secret is a secret of the machine's services.
type Secret struct {
	Name     string `json:"name"`
	Generate bool   `json:"generate,omitempty"` // sov generates it if it does not exist
	From     string `json:"from,omitempty"`     // MACHINE/SECRET: the value is another machine's
}

// Ready describes the check of readiness: the status endpoint reports that every service is ready.
type Ready struct {
	Port           int `json:"port"`            // of the status endpoint
	TimeoutSeconds int `json:"timeout_seconds"` // after which the start counts as failed
}

// Timeout returns TimeoutSeconds as a duration.
func (r Ready) Timeout() time.Duration { return time.Duration(r.TimeoutSeconds) * time.Second }

// Cmdline returns the kernel command line.
func (s *Spec) Cmdline() string { return strings.Join(s.Parameters, " ") }

// Disk returns the first disk with a role.
func (s *Spec) Disk(role Role) (Disk, bool) {
	i := slices.IndexFunc(s.Disks, func(d Disk) bool { return d.Role == role })
	if i < 0 {
		return Disk{}, false
	}
	return s.Disks[i], true
}

// DataKey says where the key of the encrypted disks is kept; empty: no disk is encrypted.
func (s *Spec) DataKey() KeyPlace {
	for _, d := range s.Disks {
		if d.Key != "" {
			return d.Key
		}
	}
	return ""
}

// Port returns the guest's first TCP port of a service.
func (s *Spec) Port(service string) (int, bool) {
	i := slices.IndexFunc(s.Ports, func(p Port) bool { return p.Service == service && !p.UDP() })
	if i < 0 {
		return 0, false
	}
	return s.Ports[i].Port, true
}

// TCPPort returns the guest's TCP port by the name of its service or by its number.
func (s *Spec) TCPPort(name string) (int, error) {
	if port, ok := s.Port(name); ok && name != "" {
		return port, nil
	}
	var known []string
	for _, p := range s.Ports {
		switch {
		case strconv.Itoa(p.Port) == name && !p.UDP():
			return p.Port, nil
		case p.UDP():
		case p.Service == "":
			known = append(known, strconv.Itoa(p.Port))
		default:
			known = append(known, fmt.Sprintf("%s (%d)", p.Service, p.Port))
		}
	}
	if len(known) == 0 {
		return 0, errors.New("it publishes no TCP port: list one under network.publish of its recipe")
	}
	return 0, fmt.Errorf("it offers no %s; it offers: %s", name, strings.Join(known, ", "))
}

// Superuser is the login of the role postgres.
var Superuser = Login{Role: "postgres", Database: "postgres", Secret: guestspec.ServicePostgres}

// Logins are the roles that log in over a network: the superuser, and those of the recipe.
func (s *Spec) Logins() []Login {
	if s.Postgres == nil {
		return []Login{Superuser}
	}
	return append([]Login{Superuser}, s.Postgres.Logins...)
}

// SuperuserScope returns where the superuser may log in from; empty means anywhere, by default.
func (s *Spec) SuperuserScope() string {
	if s.Postgres == nil {
		return ""
	}
	return s.Postgres.Superuser
}

// RemoteLogin returns a role that can log in from other addresses than the host's, such as a
// tailnet's, and false if there is none.
func (s *Spec) RemoteLogin() (Login, bool) {
	all := s.Logins()
	if s.SuperuserScope() == SuperuserFromHost {
		all = all[1:]
	}
	if len(all) == 0 {
		return Login{}, false
	}
	return all[0], true
}

// Encode returns the file's content, indented for reading, after Validate.
func (s *Spec) Encode() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode vm.json: %w", err)
	}
	return append(b, '\n'), nil
}

// Decode reads and validates a vm.json. Unknown keys are an error: they may be necessary to start
// the machine correctly.
func Decode(src []byte) (*Spec, error) {
	s := &Spec{}
	if err := strictjson.Unmarshal(src, s); err != nil {
		return nil, fmt.Errorf("decode vm.json: %w", err)
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// Validate returns all errors of the spec.
func (s *Spec) Validate() error {
	var faults []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	require(s.Format == Format, "format is %d, this program reads %d", s.Format, Format)
	if err := artifact.CheckName(s.Name); err != nil {
		faults = append(faults, fmt.Errorf("name %w", err))
	}
	require(arch.Valid(s.Arch), "arch %q: must be %s", s.Arch, arch.Allowed())
	require(isFileName(s.Kernel), "kernel %q is not the name of a file beside vm.json", s.Kernel)
	for _, p := range s.Parameters {
		require(isParameter(p), "kernel parameter %q must be a word, or NAME=\"WORDS\"", p)
	}
	require(s.MemoryMiB > 0, "memory_mib is %d", s.MemoryMiB)
	require(s.CPUs > 0, "cpus is %d", s.CPUs)
	if err := s.Options.Validate(); err != nil {
		faults = append(faults, err)
	}
	require(s.Awake.Valid(), "awake %q: must be %s, %s or %s", s.Awake, AwakeAlways, AwakeCharging, AwakeNever)
	require(len(s.Disks) > 0 && s.Disks[0].Role == RoleRootfs, "the first disk is not the rootfs, which the kernel knows as %s", RootDevice)
	for i, d := range s.Disks {
		require(d.Role != RoleRootfs || isFileName(d.File), "disk %d: file %q is not the name of a file beside vm.json", i, d.File)
		keeps, volume := d.Role == RoleData || d.Role == RoleVolume, d.Role == RoleVolume
		require(!keeps || d.Size > 0, "disk %d: the %s disk has no size", i, d.Role)
		require(d.Key == "" || keeps && (d.Key == KeyOnPhone || d.Key == KeyOnHost) && d.Key == s.DataKey(),
			"disk %d: key %q must be %s or %s, of disks with data, and the same for all", i, d.Key, KeyOnPhone, KeyOnHost)
		require(slices.Contains([]Role{RoleRootfs, RoleData, RoleConfig, RoleVolume}, d.Role), "disk %d: role %q is not known", i, d.Role)
		require(d.Name == "" && !volume || guestspec.ValidVolumeName(d.Name) && volume, "disk %d: name %q is not that of a volume", i, d.Name)
		require(slices.IndexFunc(s.Disks, func(o Disk) bool { return o.Role == d.Role && o.Name == d.Name }) == i, "disk %d: a second disk has role %s and name %q", i, d.Role, d.Name)
	}
	for _, secret := range s.Secrets {
		require(guestspec.ValidSecretName(secret.Name), "secret %q is not a name", secret.Name)
		machine, name, ok := strings.Cut(secret.From, "/")
		require(secret.From == "" || ok && artifact.ValidName(machine) && guestspec.ValidSecretName(name), "secret %s: %q is not MACHINE/SECRET", secret.Name, secret.From)
	}
	for _, p := range s.Ports {
		require(p.Port >= 1 && p.Port <= 65535, "port %d is out of range", p.Port)
		require(p.HostPort >= 0 && p.HostPort <= 65535, "host port %d is out of range", p.HostPort)
		require(slices.Contains([]string{"", guestspec.TCP, guestspec.UDP}, p.Protocol), "port %d: protocol %q must be %s or %s", p.Port, p.Protocol, guestspec.TCP, guestspec.UDP)
	}
	require(s.Ready.Port >= 1 && s.Ready.Port <= 65535, "ready.port %d is out of range", s.Ready.Port)
	require(s.Ready.TimeoutSeconds > 0, "ready.timeout_seconds is %d", s.Ready.TimeoutSeconds)
	faults = append(faults, s.Network.faults()...)
	if len(faults) > 0 {
		return fmt.Errorf("vm.json: %w", errors.Join(faults...))
	}
	return nil
}

func (n Network) faults() []error {
	var faults []error
	if err := artifact.CheckInterface(n.TAP); err != nil {
		faults = append(faults, fmt.Errorf("network.tap: %w", err))
	}
	if !n.Host.IsValid() || !n.Guest.IsValid() || n.Host.Masked() != n.Guest.Masked() || n.Host == n.Guest {
		faults = append(faults, fmt.Errorf("network.host %s and network.guest %s are not two addresses of one subnet", n.Host, n.Guest))
	}
	if !n.Routing.Valid() {
		faults = append(faults, fmt.Errorf("network.routing %q must be %s, %s or %s", n.Routing, Auto, Scoped, MainFirst))
	}
	for _, port := range n.Phone {
		if port < 1 || port > 65535 {
			faults = append(faults, fmt.Errorf("network.phone: port %d is out of range", port))
		}
	}
	for _, to := range n.Egress {
		if to != EgressLAN && to != EgressPhone {
			faults = append(faults, fmt.Errorf("network.egress: %q must be %s or %s", to, EgressLAN, EgressPhone))
		}
	}
	for _, peer := range n.Peers {
		if err := artifact.CheckName(peer); err != nil {
			faults = append(faults, fmt.Errorf("network.peers: %w", err))
		}
	}
	for _, after := range n.After {
		if err := artifact.CheckName(after); err != nil {
			faults = append(faults, fmt.Errorf("network.after: %w", err))
		}
	}
	if n.Group != "" {
		if err := artifact.CheckName(n.Group); err != nil {
			faults = append(faults, fmt.Errorf("network.group: %w", err))
		}
	}
	if n.MTU < 1280 || n.MTU > 65521 {
		faults = append(faults, fmt.Errorf("network.mtu %d is not between 1280 and 65521", n.MTU))
	}
	return faults
}

// isParameter reports whether the kernel parses p as one parameter: a word, or a name with a quoted
// value (lib/cmdline.c, next_arg).
func isParameter(p string) bool {
	if name, value, found := strings.Cut(p, `="`); found && strings.HasSuffix(value, `"`) {
		p = name + strings.ReplaceAll(strings.TrimSuffix(value, `"`), " ", "")
	}
	return p != "" && !strings.ContainsAny(p, " \t\n\"")
}

// isFileName reports whether name stays in its directory.
func isFileName(name string) bool {
	return name != "" && name != "." && name != ".." && path.Base(name) == name
}
