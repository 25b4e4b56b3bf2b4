//go:build linux

package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/disk"
	"github.com/sovereign-sql/sov/internal/guest/endpoint"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/machinebackup"
	"github.com/sovereign-sql/sov/internal/guest/network"
	"github.com/sovereign-sql/sov/internal/guest/supervision"
)

// boot brings the machine up. It returns an error only if the guest cannot continue; any other
// error becomes a problem in the status.
func (m *machine) boot(ctx context.Context) error {
	spec, err := guestspec.Load(os.DirFS("/"))
	if err != nil {
		return err
	}
	m.spec = spec
	config, configErr := disk.ReadConfig(spec.ConfigDisk)
	m.config = config
	image, imageErr := disk.Image()
	var alone *standalone
	slack := clockSlack
	if image != "" {
		slack = firmwareSlack
		if errors.Is(configErr, disk.ErrNoConfig) {
			configErr = nil
			alone = m.standAlone()
		}
	}
	// This comes before anything reads the clock.
	setBy, clockErr := setClock(config.Time, slack)
	m.console.Log(journal.Info, journal.InitName, "starting", "image", spec.Image.Name, "version", spec.Image.Version,
		"kernel", kernelRelease(), "clock_set_by", setBy.Round(time.Millisecond))
	m.problem("", configErr)
	m.problem("", imageErr)
	m.problem("", clockErr)
	m.mu.Lock()
	m.data = m.newDisk(spec.Data, "")
	for _, v := range spec.Volumes {
		m.volumes = append(m.volumes, m.newDisk(v.Data(spec.Data.Wait), v.Name))
	}
	m.supervisor = supervision.New(supervision.Config{
		Reaper: m.reaper, Console: m.console, Path: spec.Path, Roots: spec.Roots(), Secrets: m.config.Secrets,
		Now: time.Now, Uptime: uptime, Spawn: m.spawn, OnReady: func() {
			m.reportReady()
			for _, d := range m.disks() {
				m.spawn("free blocks of the "+d.Name(), func() { d.KeepTrimmed(ctx) })
			}
		},
	}, spec.Services)
	m.mu.Unlock()
	watchPowerButton(m.spawn, m.RequestShutdown)
	watchConsole(m.spawn, m.RequestShutdown)
	m.problem("", m.setHostname())
	m.problem("", m.SetHosts(config.Network.Hosts))
	m.problem("", m.writeHost())
	for _, t := range spec.Tmpfs {
		m.problem("", filesystem.MountTmpfs(t))
	}
	m.problem("kernel settings", setSysctls(spec.Sysctls))
	m.problem("", network.UpLoopback())
	var firewallErr error
	switch {
	case alone != nil:
		m.problem("", replaceFiles(guestspec.StandaloneDir))
		firewallErr = alone.goOnline(ctx)
	case configErr == nil:
		firewallErr = m.goOnline()
	}
	m.keepClock(ctx)
	if firewallErr != nil {
		m.supervisor.Block("the firewall is not loaded: " + firewallErr.Error())
		m.problem("firewall", firewallErr)
		return nil
	}
	if image != "" {
		m.growPartition(image)
	}
	if err := m.data.Mount(ctx); err != nil {
		m.supervisor.Block("the data disk is not mounted: " + err.Error())
		m.problem("data disk", err)
		return nil
	}
	if err := m.keepLogs(); err != nil {
		m.problem("logs are not kept", err)
	}
	m.watchSpace(ctx, m.data)
	if err := m.mountVolumes(ctx); err != nil {
		m.supervisor.Block(err.Error())
		return nil
	}
	m.problem("restore", machinebackup.Recover(m.spec.Roots(), m.spec.Services))
	m.keepCertificate(ctx)
	if alone != nil {
		alone.mounted()
		m.mu.Lock()
		m.onReady = alone.ready
		m.mu.Unlock()
	}
	m.supervisor.Start()
	m.spawn("tailnet", func() { m.watchTailnet(ctx) })
	return nil
}

// disks are the data disk and the volumes.
func (m *machine) disks() []*disk.Data { return append([]*disk.Data{m.data}, m.volumes...) }

// newDisk returns the data disk, or the named volume.
func (m *machine) newDisk(spec guestspec.Data, volume string) *disk.Data {
	return &disk.Data{Spec: spec, Volume: volume, Path: m.spec.Path, Reaper: m.reaper, Console: m.console, Problem: m.problem,
		Key: m.config.Secrets[guestspec.SecretDataKey], OldKey: m.config.Secrets[guestspec.SecretOldDataKey]}
}

// mountVolumes mounts all volumes that can be mounted. The error names the others. Their mount
// points are empty directories, which no service may use as its data.
func (m *machine) mountVolumes(ctx context.Context) error {
	var faults []error
	for i, v := range m.volumes {
		err := v.Mount(ctx)
		if err == nil {
			m.watchSpace(ctx, v)
			err = filesystem.MakeDirectory(m.spec.Volumes[i].Directory)
		}
		if err != nil {
			m.problem(v.Name(), err)
			faults = append(faults, fmt.Errorf("the %s is not mounted: %w", v.Name(), err))
		}
	}
	return errors.Join(faults...)
}

func (m *machine) watchSpace(ctx context.Context, d *disk.Data) {
	m.spawn("space of the "+d.Name(), func() { d.Watch(ctx) })
}

// keepLogs makes the journal write to the data disk from now on.
func (m *machine) keepLogs() error {
	dir := filepath.Join(m.spec.Data.Path, "log")
	if err := filesystem.MakeDirectory(guestspec.Directory{Path: dir, Mode: "0700", User: "root"}); err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, s := range m.spec.Services {
		sizes[s.Name] = s.LogSize
	}
	m.journal.Attach(dir, sizes)
	return nil
}

// hostname returns the guest's name.
func (m *machine) hostname() string { return cmp.Or(m.config.Hostname, m.spec.Hostname) }

// SetHosts implements endpoint.Machine.
func (m *machine) SetHosts(hosts []configdisk.Host) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peers = hosts
	return m.writeHosts()
}

// setNodes replaces the names of the tailnet's nodes.
func (m *machine) setNodes(nodes []configdisk.Host) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(m.nodes, nodes) {
		return nil
	}
	m.nodes = nodes
	return m.writeHosts()
}

// writeHosts writes the names that the guest resolves. A name of a tailnet's node is left out if
// the guest or a peer has it. The caller holds m.mu.
func (m *machine) writeHosts() error {
	taken := func(name string) bool {
		return name == "localhost" || name == m.hostname() || slices.ContainsFunc(m.peers, func(p configdisk.Host) bool { return p.Name == name })
	}
	nodes := slices.DeleteFunc(slices.Clone(m.nodes), func(n configdisk.Host) bool { return taken(n.Name) })
	return network.WriteHosts(m.hostname(), slices.Concat(m.peers, nodes))
}

func (m *machine) setHostname() error {
	name := m.hostname()
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name %s: %w", name, err)
	}
	return nil
}

// goOnline loads the firewall, configures the network and starts the endpoint. It returns an error
// if the firewall could not be loaded: then no service may run, but the endpoint still answers and
// reports the error. The firewall comes first, because the interface may be up with an address even
// if its configuration fails.
func (m *machine) goOnline() (firewallErr error) {
	name, err := network.Find(m.spec.Network)
	if err != nil {
		m.problem("network", err)
		return nil
	}
	firewallErr = network.Firewall{
		Link: name, Subnet: m.config.Network.Address, Gateway: m.config.Network.Gateway,
		Endpoint: m.spec.Endpoint.Port, Open: m.spec.Firewall.Open,
	}.Apply()
	if err := network.Configure(name, m.config.Network); err != nil {
		m.problem("network", err)
		return firewallErr
	}
	m.link = name
	address := m.config.Network.Address.Addr()
	m.console.Log(journal.Info, journal.InitName, "network configured", "interface", name, "address", m.config.Network.Address)
	if m.config.Token == "" || !address.IsValid() {
		m.problem("endpoint", errors.New("not started: the config disk has no token or no address"))
		return firewallErr
	}
	m.problem("endpoint", m.serve(netip.AddrPortFrom(address, m.spec.Endpoint.Port)))
	return firewallErr
}

// serve runs the endpoint on address until the guest shuts down.
func (m *machine) serve(address netip.AddrPort) error {
	server := endpoint.New(endpoint.Config{
		Machine: m, Console: m.console, Journal: m.journal, Reaper: m.reaper,
		Keeper: &machinebackup.Keeper{
			Supervisor: m.supervisor, Reaper: m.reaper, Console: m.console, Path: m.spec.Path, Roots: m.spec.Roots(),
			Services: m.spec.Services, Database: m.readyDatabase, Mounted: m.mounted,
		},
		Path: m.spec.Path, Services: m.spec.Services, Token: m.config.Token, Shell: m.spec.Endpoint.Shell,
	})
	if err := server.Listen(address, m.spawn); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endpoint = server
	return nil
}
