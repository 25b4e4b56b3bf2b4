package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/android"
	"github.com/sovereign-sql/sov/internal/phone/network"
	"github.com/sovereign-sql/sov/internal/phone/slots"
	"golang.org/x/sys/unix"
)

// guestPatience is the timeout of a request to the guest.
const guestPatience = guestapi.StatusTime + 3*time.Second

// Status returns the machine's status from its daemon and its guest, and whether their processes
// are running.
func Status(ctx context.Context, root phonepath.Root, name string) (*health.Machine, error) {
	vm, err := lookUp(root, name)
	if err != nil {
		return nil, err
	}
	s, err := lookAt(ctx, vm)
	if err == nil && s.GuestFault != "" {
		// If crosvm has ended meanwhile, the guest does not count as not answering.
		if pids, gone := crosvmsOf("/proc", vm); gone == nil && len(pids) == 0 {
			s, err = lookAt(ctx, vm)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", name, err)
	}
	if !s.CrosvmAlive {
		s.Network.Warnings = foresee(root, vm)
	}
	return s, nil
}

// foresee returns which traffic of others on the phone the next started version would affect, with
// the phone's current networks; nil if unknown.
func foresee(root phonepath.Root, vm phonepath.VM) []string {
	settings, err := loadSettings(root)
	if err != nil {
		return nil
	}
	a, err := loadArtifact(root, settings, vm)
	if err != nil {
		return nil
	}
	settings.apply(a.spec)
	warnings, err := network.Foresee(a.network(root, settings, func(string) {}))
	if err != nil {
		return nil
	}
	return warnings
}

// lookAt reads the machine's files and processes, and queries its guest.
func lookAt(ctx context.Context, vm phonepath.VM) (*health.Machine, error) {
	state, err := readState(vm)
	if err != nil {
		return nil, err
	}
	m := health.New(vm.Name)
	m.State, m.Asked, m.Slots = *state, time.Now().UTC(), slots.List(vm)
	m.Power, m.Thermal, m.Phone = android.Power("/sys"), android.Thermal("/sys"), android.Phone{}.Describe(ctx)
	if m.Backup, err = lastBackup(vm); err != nil {
		m.Warnings = append(m.Warnings, err.Error())
	}
	holder, err := lockHolder(vm)
	if err != nil {
		return nil, err
	}
	m.DaemonAlive = holder != 0 && holder == state.Daemon
	pids, err := crosvmsOf("/proc", vm)
	if err != nil {
		return nil, err
	}
	m.CrosvmAlive = len(pids) > 0
	correct(m, pids)
	if token := readToken(vm); m.CrosvmAlive && token != "" && state.Network.Endpoint.IsValid() {
		askGuest(ctx, m, guestapi.NewClient(state.Network.Endpoint, token))
	}
	addDisks(m, vm)
	return m, nil
}

// addDisks adds the phone's data about the machine's disks, including kept volumes that the guest
// does not have.
func addDisks(m *health.Machine, vm phonepath.VM) {
	answered := len(m.Disks) > 0
	for _, kept := range keptDisks(vm) {
		i := slices.IndexFunc(m.Disks, func(d health.Disk) bool { return d.Name == kept.name() })
		if i < 0 {
			d := health.Disk{Name: kept.name()}
			if answered {
				d.Fault = "the version that runs has no such volume"
			}
			i, m.Disks = len(m.Disks), append(m.Disks, d)
		}
		m.Disks[i].Allocated = allocated(kept.path)
		if content, err := kept.Look(kept.path); err == nil && content == datadisk.Encrypted {
			m.Disks[i].Encryption = guestapi.LUKS2
		}
	}
}

// askGuest adds the guest's status, and the certificate of its database.
func askGuest(ctx context.Context, m *health.Machine, guest *guestapi.Client) {
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	status, err := guest.Status(ctx)
	if err != nil {
		m.GuestFault = err.Error()
		return
	}
	m.AddGuest(status)
	databaseAt(m, m.Network.Database)
	if m.Database != nil && m.Database.Ready && m.Database.Address.IsValid() {
		m.Certificate, _ = probeDatabase(ctx, m.Database.Address) // test and diagnose report a ready server that does not answer
	}
}

// allocated returns a file's disk space in bytes, or 0 if unknown.
func allocated(path string) int64 {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return 0
	}
	return stat.Blocks * 512 // the unit of st_blocks, whatever the file system's block size
}

// correct corrects a state that a killed daemon has left.
func correct(s *health.Machine, pids []int) {
	switch {
	case s.DaemonAlive || s.Phase == runnerapi.Down && !s.CrosvmAlive:
	case s.CrosvmAlive:
		s.Crosvm = pids[0]
		s.Reason = fmt.Sprintf("its daemon was killed, and crosvm (process %d) runs without supervision: start the machine again, which first shuts that one down cleanly", pids[0])
		s.Phase = runnerapi.NotReady
	default:
		s.Reason = "its daemon was killed, or the phone was restarted"
		s.Phase, s.Daemon, s.Crosvm = runnerapi.Down, 0, 0
	}
}
