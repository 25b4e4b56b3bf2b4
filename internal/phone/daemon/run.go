package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/android"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// A run is one run of crosvm.
type run struct {
	program *crosvm.Program
	process *crosvm.Process
	guest   *guestapi.Client
	machine crosvm.Machine
	config  *configDisk
	cutOff  bool // the guest has lost its network
}

// prepare creates everything that an artifact's machine needs, except its network, and returns the
// machine to run.
func prepare(ctx context.Context, vm phonepath.VM, a *artifact, secrets map[string]string, names []configdisk.Host, place *configPlace, log func(string)) (crosvm.Machine, *configDisk, string, error) {
	m := crosvm.Machine{
		Name: vm.Name, Kernel: filepath.Join(a.dir, a.spec.Kernel), Params: a.spec.Parameters, MemoryMiB: a.spec.MemoryMiB, CPUs: a.spec.CPUs,
		TAP: a.spec.Network.TAP, MAC: crosvm.MACFor(vm.Name), Socket: vm.Socket(), Console: vm.Console(), Early: vm.Early(), Requests: vm.Requests(),
	}
	token := rand.Text() + rand.Text() // 52 characters, 256 bits
	config, err := writeConfigDisk(ctx, vm, a.spec, secrets, names, token, place)
	if err != nil {
		return m, nil, "", err
	}
	m.Disks, err = disks(ctx, vm, a, config, log)
	if err == nil {
		// The folder of the control socket.
		if err = os.Mkdir(vm.Machine(), 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err == nil {
		err = clearSockets(vm)
	}
	if err != nil {
		return m, nil, "", errors.Join(err, config.forget())
	}
	return m, config, token, nil
}

// disks returns the disks of vm.json, in order.
func disks(ctx context.Context, vm phonepath.VM, a *artifact, config *configDisk, log func(string)) ([]crosvm.Disk, error) {
	var disks []crosvm.Disk
	for _, d := range a.spec.Disks {
		disk := crosvm.Disk{ReadOnly: d.ReadOnly}
		switch d.Role {
		case vmspec.RoleRootfs:
			disk.Path = filepath.Join(a.dir, d.File)
		case vmspec.RoleConfig:
			disk.Path = config.path()
		case vmspec.RoleData, vmspec.RoleVolume:
			disk.Path = diskPath(vm, d.Name)
			if err := ensureDisk(ctx, vm.Name, disk.Path, datadisk.Of(d), log); err != nil {
				return nil, err
			}
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

// clearSockets removes control sockets without a listener.
func clearSockets(vm phonepath.VM) error {
	return errors.Join(crosvm.ClearSocket(vm.Socket()), crosvm.ClearSocket(vm.OldSocket()))
}

// configIndex returns the index of the config disk.
func configIndex(spec *vmspec.Spec) int {
	return slices.IndexFunc(spec.Disks, func(d vmspec.Disk) bool { return d.Role == vmspec.RoleConfig })
}

// writeConfigDisk writes the config disk for this start. Only root can read the disk and the token.
func writeConfigDisk(ctx context.Context, vm phonepath.VM, spec *vmspec.Spec, secrets map[string]string, names []configdisk.Host, token string, place *configPlace) (*configDisk, error) {
	n := spec.Network
	disk, err := configdisk.Encode(configdisk.Config{
		Hostname: n.Hostname,
		Network:  configdisk.Network{Address: n.Guest, Gateway: n.Host.Addr(), DNS: n.DNS, MTU: n.MTU, Hosts: names},
		Time:     time.Now(),

		TimeServers: []netip.AddrPort{timeServer(spec)},

		Secrets: secrets,
		Host:    android.Phone{}.Host(ctx),
		Token:   token,
	})
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(vm.Token(), []byte(token), 0o600); err != nil {
		return nil, fmt.Errorf("the endpoint's token: %w", err)
	}
	return place.write(vm.ConfigDisk(), disk)
}

// endpoint returns the address of the guest's endpoint.
func endpoint(spec *vmspec.Spec) netip.AddrPort {
	return netip.AddrPortFrom(spec.Network.Guest.Addr(), uint16(spec.Ready.Port))
}

// databaseOf returns PostgreSQL's address on the machine's network. It is invalid if the machine
// does not publish PostgreSQL.
func databaseOf(spec *vmspec.Spec) netip.AddrPort {
	port, ok := spec.Port(guestspec.ServicePostgres)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(spec.Network.Guest.Addr(), uint16(port))
}

// start starts crosvm. Its output goes to the log.
func start(program *crosvm.Program, m crosvm.Machine, user *crosvm.User, a *artifact, config *configDisk, token string, output io.Writer) (*run, error) {
	process, err := program.Start(m, user, output)
	if err != nil {
		return nil, err
	}
	return &run{program: program, process: process, guest: guestapi.NewClient(endpoint(a.spec), token), machine: m, config: config}, nil
}

func (r *run) askGuest(ctx context.Context) error {
	if r.cutOff {
		return errors.New("ask the guest: its network is gone")
	}
	return r.guest.Shutdown(ctx)
}

func (r *run) askConsole() error                    { return askConsole(r.machine.Requests) }
func (r *run) stopCrosvm(ctx context.Context) error { return r.program.Stop(ctx, r.machine.Socket) }

func (r *run) kill() error {
	r.process.Kill()
	return nil
}

func (r *run) wait(ctx context.Context) bool {
	select {
	case <-r.process.Done():
		return true
	case <-ctx.Done():
		return false
	}
}

// removeRunFiles removes the files of one run of crosvm. It waits until no process holds the
// control socket: a killed crosvm first frees the guest's memory, and cannot be found by its
// arguments any more.
func removeRunFiles(vm phonepath.VM) error {
	faults := []error{wipe(vm.ConfigDisk())} // left by a power cut or an earlier version
	for _, path := range []string{vm.ConfigDisk(), vm.Token(), vm.Requests()} {
		for _, path := range []string{path, path + ".new"} { // earlier versions left the second when they were killed
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				faults = append(faults, err)
			}
		}
		if err := durable.RemoveLeftovers(path); err != nil {
			faults = append(faults, err)
		}
	}
	err := clearSockets(vm)
	for deadline := time.Now().Add(socketTimeout); errors.Is(err, crosvm.ErrSocketHeld) && time.Now().Before(deadline); {
		time.Sleep(lockPoll)
		err = clearSockets(vm)
	}
	return errors.Join(append(faults, err)...)
}

// socketTimeout is how long an ending process may hold a control socket.
const socketTimeout = 5 * time.Second

// readToken returns the token of the running machine, or "".
func readToken(vm phonepath.VM) string {
	text, err := os.ReadFile(vm.Token())
	if err != nil {
		return ""
	}
	return string(text)
}

// describe returns why a guest is not ready.
func describe(status *guestapi.Status) string {
	reasons := slices.Clone(status.Problems)
	if services := status.Describe(guestapi.StateWaiting, guestapi.StateStarting, guestapi.StateBackoff, guestapi.StateLooping,
		guestapi.StateFailed, guestapi.StateStopped); services != "" {
		reasons = slices.Insert(reasons, 0, services)
	}
	return strings.Join(reasons, "; ")
}
