package localvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/authority"
	"github.com/sovereign-sql/sov/internal/host/egress"
	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// Options say what to run and how. All but the first three are optional.
type Options struct {
	Artifact  string           // the out folder
	State     string           // folder for persistent files; created with mode 0700
	Now       func() time.Time // the clock that the guest's clock follows
	Port      uint16           // of 127.0.0.1 for PostgreSQL; 0 takes a free one
	Console   io.Writer        // takes the guest's console
	Notice    func(string)     // called with messages for the user while the machine runs; may be nil
	MemoryMiB int              // 0: what vm.json says
	CPUs      int              // 0: what vm.json says
	KVM       bool             // use this computer's processor; it must be of the guest's architecture
	ClockChip time.Time        // what the guest's clock chip shows at power-on; zero: the present
	Disk      bool             // start the artifact's disk image by UEFI, instead of its kernel and root file system
	Egress    bool             // the guest reaches the internet, and what the recipe's network.egress names; else nothing
	Passt     string           // path of passt, used for Egress; empty: QEMU's user network, which also reaches this computer's loopback
	// Secrets of the machine, by name. Passwords of the database's roles that are not among them
	// are made, and kept in State.
	Secrets map[string]string
	// Runtime is a folder for the files with Secrets, which are removed when the run ends: best one
	// in memory, such as $XDG_RUNTIME_DIR. State is used where it is empty or unusable.
	Runtime string
}

// A VM is a started machine.
type VM struct {
	machine *qemu.VM
	state   *state
	time    *timeServer
	egress  *egress.Network // nil: QEMU connects it, or it has no egress
	network NetworkMode
	status  *guestapi.Client
	spec    *vmspec.Spec
	disk    bool // it runs from a disk image
	kvm     bool // its processor is this computer's

	notify func(string)
	full   atomic.Bool           // paused because a disk of this computer is full
	lost   atomic.Pointer[error] // why its network failed while it ran

	password string // the superuser's
	passfile string // with it; empty: no file can hold it

	running *Running
	tls     atomic.Pointer[authority.Client] // how clients connect, once the machine is ready
}

// ReadSpec reads vm.json of an out folder.
func ReadSpec(dir string) (*vmspec.Spec, error) {
	text, err := os.ReadFile(filepath.Join(dir, artifact.SpecFile))
	if err != nil {
		return nil, fmt.Errorf("run %s: %w: build it with `sov build`", dir, err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", dir, err)
	}
	return spec, nil
}

// Start starts the machine and returns once QEMU runs it; Ready tells when the guest does.
// Cancelling ctx pulls the plug. The caller must Close what Start returns.
func Start(ctx context.Context, o Options) (*VM, error) {
	spec, err := ReadSpec(o.Artifact)
	if err != nil {
		return nil, err
	}
	if err := o.check(spec); err != nil {
		return nil, fmt.Errorf("run %s: %w", spec.Name, err)
	}
	s, err := openState(ctx, o.State, o.Runtime)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", spec.Name, err)
	}
	vm, err := start(ctx, o, spec, s)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("run %s: %w", spec.Name, err), s.close())
	}
	return vm, nil
}

// check rejects options that QEMU would reject with a less helpful message.
func (o *Options) check(spec *vmspec.Spec) error {
	if o.KVM && spec.Arch != runtime.GOARCH {
		return fmt.Errorf("--kvm: this computer's processor is %s, the machine is for %s: leave --kvm out, or build it with --arch %[1]s", runtime.GOARCH, spec.Arch)
	}
	if o.KVM {
		kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("--kvm: %w: leave --kvm out, or let your user open the device (group kvm)", err)
		}
		kvm.Close()
	}
	if o.Port == 0 {
		return nil
	}
	// QEMU opens the port after this check; a conflict in between is reported by QEMU itself.
	listen, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: loopback.AsSlice(), Port: int(o.Port)})
	if err != nil {
		return fmt.Errorf("--port %d: %w: choose another one; without --port a free one is taken", o.Port, err)
	}
	return listen.Close()
}

func start(ctx context.Context, o Options, spec *vmspec.Spec, s *state) (vm *VM, err error) {
	if spec.DataKey() != "" && o.Secrets[guestspec.SecretDataKey] == "" {
		return nil, fmt.Errorf("its data is encrypted, and the key is not on this computer: enter your copy with `sov secrets set %s %s`; the disk cannot be opened without it",
			spec.Name, guestspec.SecretDataKey)
	}
	secrets, passfile, err := s.passwords(spec.Logins(), o.Secrets)
	if err != nil {
		return nil, err
	}
	password := secrets[vmspec.Superuser.Secret]
	maps.Copy(secrets, o.Secrets)
	clock, timePort, err := startTimeServer(o.Now)
	if err != nil {
		return nil, err
	}
	defer timePort.Close()
	defer func() {
		if vm == nil {
			clock.close()
		}
	}()
	network := network(spec, o.Port)
	network.Open = o.Egress && o.Passt == ""
	var world *egress.Network
	if o.Egress && o.Passt != "" {
		if world, err = startEgress(ctx, o.Passt, spec, &network); err != nil {
			return nil, err
		}
		defer world.Card().Close()
		defer func() {
			if vm == nil {
				err = errors.Join(err, world.Close())
			}
		}()
	}
	token := rand.Text() + rand.Text() // 52 characters, 256 bits
	config, release, err := writeConfig(s, spec, network, o.Now(), token, secrets)
	if err != nil {
		return nil, err
	}
	defer release() // once QEMU has opened it
	description := qemu.Machine{Arch: spec.Arch}
	if o.Disk {
		image, err := s.wholeDisk(ctx, o.Artifact, func(format string, args ...any) {
			if o.Notice != nil {
				o.Notice(fmt.Sprintf(format, args...))
			}
		})
		if err != nil {
			return nil, err
		}
		if description.Firmware, err = qemu.FindFirmware(spec.Arch); err != nil {
			return nil, err
		}
		description.Disks = []qemu.Disk{image, config}
	} else {
		description.Kernel, description.Cmdline = filepath.Join(o.Artifact, spec.Kernel), spec.Cmdline()
		if description.Disks, err = disks(ctx, o.Artifact, spec, config, s); err != nil {
			return nil, err
		}
	}
	description.MemoryMiB, description.CPUs = or(o.MemoryMiB, spec.MemoryMiB), or(o.CPUs, spec.CPUs)
	description.Network, description.Console, description.Clock, description.KVM = network, o.Console, o.ClockChip, o.KVM
	description.Channels = []qemu.Channel{{Name: configdisk.TimePort, Socket: timePort}}
	machine, err := description.Start(ctx)
	if err != nil {
		return nil, err
	}
	started := &VM{machine: machine, state: s, time: clock, egress: world, network: modeOf(o), spec: spec, disk: o.Disk, kvm: o.KVM, notify: o.Notice, password: password, passfile: passfile}
	endpoint := netip.AddrPortFrom(loopback, started.port(qemu.Forward{Guest: uint16(spec.Ready.Port)}))
	started.status = guestapi.NewClient(endpoint, token)
	started.running = &Running{
		Name: spec.Name, Arch: spec.Arch, PID: os.Getpid(), QEMU: machine.PID(), URL: started.URL(), Started: o.Now(),
		Endpoint: endpoint, Token: token, Network: started.network,
		Published: started.Published(),
	}
	if err := s.note(started.running); err != nil {
		return nil, errors.Join(err, machine.Kill())
	}
	go started.watchDisks()
	if world != nil {
		go started.watchEgress()
	}
	return started, nil
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func or(value, otherwise int) int {
	if value != 0 {
		return value
	}
	return otherwise
}

// network is vm.json's, with the status endpoint and the published ports forwarded.
func network(spec *vmspec.Spec, port uint16) qemu.Network {
	n := qemu.Network{
		Subnet: spec.Network.Subnet(), Host: spec.Network.Host.Addr(), Guest: spec.Network.Guest.Addr(),
		Forward: []qemu.Forward{{Guest: uint16(spec.Ready.Port)}},
	}
	for _, p := range spec.Ports {
		forward := forwardOf(p)
		if p.Service == guestspec.ServicePostgres && port != 0 {
			forward.Port = port
		}
		n.Forward = append(n.Forward, forward)
	}
	return n
}

func writeConfig(s *state, spec *vmspec.Spec, network qemu.Network, now time.Time, token string, secrets map[string]string) (disk qemu.Disk, release func(), err error) {
	content, err := configdisk.Encode(configdisk.Config{
		Hostname: spec.Network.Hostname,
		Network: configdisk.Network{
			Address: spec.Network.Guest, Gateway: network.Host, DNS: []netip.Addr{network.DNS()}, MTU: spec.Network.MTU,
		},
		Time:    now,
		Secrets: secrets,
		Host:    configdisk.ThisHost(),
		Token:   token,
	})
	if err != nil {
		return disk, nil, fmt.Errorf("config disk: %w", err)
	}
	return s.config(content)
}

// disks are vm.json's, in its order.
func disks(ctx context.Context, artifact string, spec *vmspec.Spec, config qemu.Disk, s *state) ([]qemu.Disk, error) {
	var disks []qemu.Disk
	for _, d := range spec.Disks {
		disk := qemu.Disk{ReadOnly: d.ReadOnly}
		switch d.Role {
		case vmspec.RoleRootfs:
			disk.Path = filepath.Join(artifact, d.File)
		case vmspec.RoleConfig:
			disk = config
		case vmspec.RoleData, vmspec.RoleVolume:
			path, err := s.disk(ctx, datadisk.Of(d))
			if err != nil {
				return nil, err
			}
			disk.Path = path
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

// notice sends a message to Options.Notify, if set.
func (vm *VM) notice(format string, args ...any) {
	if vm.notify != nil {
		vm.notify(fmt.Sprintf(format, args...))
	}
}

// trust makes clients verify the certificate of a ready machine if its own certificate authority
// signed it. The machine runs on this computer, and its authority was read with the token that only
// this process has.
// A machine with the tailnet's certificate is not verified, but encrypted: the certificate is not
// for an address of this computer.
func (vm *VM) trust(status *guestapi.Status) error {
	p := status.Postgres
	if p == nil || vm.Address() == "" || p.Authority == "" && p.Public == nil {
		return nil
	}
	client := &authority.Client{Encrypt: true}
	if onTailnet := status.Tailnet != nil && status.Tailnet.State != guestapi.TailnetOff; p.Public == nil || !onTailnet {
		client.RootCert = vm.state.path(AuthorityName)
		if err := durable.WriteFile(client.RootCert, []byte(p.Authority), 0o644); err != nil {
			return err
		}
	}
	vm.tls.Store(client)
	vm.running.URL = vm.URL()
	return vm.state.note(vm.running)
}

// URL returns the connection URL of the database's superuser, for psql and other libpq clients. It
// names a password file instead of the password, or neither where HasPasswordFile is false. It is
// empty when the artifact publishes no database.
func (vm *VM) URL() string {
	address, err := netip.ParseAddrPort(vm.Address())
	if err != nil { // it is empty
		return ""
	}
	more := url.Values{}
	if vm.passfile != "" {
		more.Set("passfile", vm.passfile)
	}
	var client authority.Client
	if known := vm.tls.Load(); known != nil {
		client = *known
	}
	u := url.URL{
		Scheme: "postgresql", User: url.User("postgres"), Host: client.Host(address), Path: "/postgres",
		RawQuery: client.Query(address, more),
	}
	return u.String()
}

// Password returns the superuser's password.
func (vm *VM) Password() string { return vm.password }

// HasPasswordFile reports whether the URL names a file with the password. There is none if the
// password has line breaks.
func (vm *VM) HasPasswordFile() bool { return vm.passfile != "" }

// Address returns where PostgreSQL listens on this computer, HOST:PORT; it is empty when the
// artifact publishes no database.
func (vm *VM) Address() string {
	port, ok := vm.spec.Port(guestspec.ServicePostgres)
	if !ok {
		return ""
	}
	return netip.AddrPortFrom(loopback, vm.port(qemu.Forward{Guest: uint16(port)})).String()
}

// port returns the port of 127.0.0.1 at which a published port of the guest is reachable.
func (vm *VM) port(f qemu.Forward) uint16 {
	if vm.egress != nil {
		return vm.egress.Port(f)
	}
	return vm.machine.Port(f)
}

// PID returns QEMU's process ID.
func (vm *VM) PID() int { return vm.machine.PID() }

// Done is closed when the machine has ended.
func (vm *VM) Done() <-chan struct{} { return vm.machine.Done() }

// Wait waits for the machine's end; its error is nil when the guest powered itself off.
func (vm *VM) Wait() error {
	err := vm.machine.Wait()
	if lost := vm.lost.Load(); lost != nil {
		err = errors.Join(*lost, err)
	}
	return err
}

// Kill ends the machine as a power cut would.
func (vm *VM) Kill() error { return vm.machine.Kill() }

// PowerButton presses the machine's power button.
func (vm *VM) PowerButton(ctx context.Context) error { return vm.machine.PowerButton(ctx) }

// GrowData enlarges the data disk of the running machine to size bytes; it never shrinks it. The
// guest enlarges its file system within seconds, as Status shows.
func (vm *VM) GrowData(ctx context.Context, size int64) error {
	if vm.disk {
		return fmt.Errorf("enlarge the data disk of %s: it runs from a disk image", vm.spec.Name)
	}
	i := slices.IndexFunc(vm.spec.Disks, func(d vmspec.Disk) bool { return d.Role == vmspec.RoleData })
	if i < 0 {
		return fmt.Errorf("enlarge the data disk of %s: it has none", vm.spec.Name)
	}
	info, err := os.Stat(vm.state.path(dataName))
	if err == nil && info.Size() < size {
		err = vm.machine.ResizeDisk(ctx, i, size)
	}
	if err != nil {
		return fmt.Errorf("enlarge the data disk of %s to %d bytes: %w", vm.spec.Name, size, err)
	}
	return nil
}

// Client returns a client of the guest.
func (vm *VM) Client() *guestapi.Client { return vm.status }

// Status requests the guest's status.
func (vm *VM) Status(ctx context.Context) (*guestapi.Status, error) { return vm.status.Status(ctx) }

// LookAtClock makes the guest compare its clock with this computer's and correct it immediately.
func (vm *VM) LookAtClock(ctx context.Context) (*guestapi.Clock, error) {
	return vm.status.LookAtClock(ctx)
}

// Close kills the machine, if it still runs, as a power cut would, and unlocks its data. It may be
// called twice.
func (vm *VM) Close() error {
	vm.time.close()
	err := vm.machine.Kill()
	if vm.egress != nil {
		err = errors.Join(err, vm.egress.Close())
	}
	return errors.Join(err, vm.state.close())
}
