//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/cluster"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/network"
	"github.com/sovereign-sql/sov/internal/guest/tailnet"
)

// Status implements endpoint.Machine.
func (m *machine) Status(ctx context.Context) guestapi.Status {
	services, ready := m.supervisor.Status()
	slices.SortFunc(services, func(a, b guestapi.Service) int { return strings.Compare(a.Name, b.Name) })
	hostname, _ := os.Hostname()
	s := guestapi.Status{
		Image:    m.spec.Image.Name,
		Version:  m.spec.Image.Version,
		Hostname: hostname,
		BootID:   bootID(),
		Kernel:   kernelRelease(),
		Time:     time.Now().UTC(),
		Uptime:   uptime().Seconds(),
		Data:     m.data.Status(),
		Services: services,
		Memory:   memory(),
		Orphans:  m.reaper.Orphans(),
		Network:  network.Status(m.link),
	}
	for _, v := range m.volumes {
		s.Volumes = append(s.Volumes, guestapi.Volume{Name: v.Volume, Data: v.Status()})
	}
	asking, cancel := context.WithTimeout(ctx, guestapi.StatusTime)
	defer cancel()
	var asked sync.WaitGroup
	asked.Go(func() { s.Tailnet = m.tailnetStatus(asking, services) })
	asked.Go(func() { s.Postgres = m.databaseStatus(asking, services) })
	asked.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clock != nil {
		clock := m.clock.Status()
		s.Clock = &clock
	}
	s.Problems = slices.Clone(m.problems)
	s.Stopping = m.stopping
	s.Ready = ready && !m.stopping
	return s
}

// bootID returns the kernel's random ID of this boot.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// memory reads /proc/meminfo, whose values are in KiB.
func memory() guestapi.Memory {
	b, _ := os.ReadFile("/proc/meminfo")
	var mem guestapi.Memory
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "MemTotal:":
			mem.Total = n << 10
		case "MemAvailable:":
			mem.Available = n << 10
		}
	}
	return mem
}

// tailnetStatus returns the tailnet's part of the status, or nil if the image does not have
// Tailscale.
func (m *machine) tailnetStatus(ctx context.Context, services []guestapi.Service) *guestapi.Tailnet {
	spec, service := m.describedService(guestspec.ServiceTailscale, services)
	if spec == nil || spec.Ready.Unix == "" {
		return nil
	}
	_, hasKey := m.config.Secrets[guestspec.ServiceTailscale]
	report := tailnet.Report(ctx, spec.Ready.Unix, tailnetState(spec), service, hasKey)
	report.Fault = journal.Redact(m.config.Secrets, report.Fault)
	report.Warn(m.twin.Warning())
	report.Warn(m.certificateWarning())
	return &report
}

// databaseStatus returns PostgreSQL's part of the status, or nil if the image does not have it.
func (m *machine) databaseStatus(ctx context.Context, services []guestapi.Service) *guestapi.Postgres {
	spec, service := m.describedService(guestspec.ServicePostgres, services)
	if spec == nil || !strings.HasPrefix(spec.Ready.Postgres, "/") {
		return nil
	}
	report := cluster.Report(ctx, spec.Ready.Postgres, dataDirectory(spec), fixedSettings(spec), service)
	report.Kept = m.kept.List(dataDirectory(spec))
	m.describeCertificate(spec, report)
	return report
}

// dataDirectory returns the data directory in the server's command.
func dataDirectory(postgres *guestspec.Service) string {
	if i := slices.Index(postgres.Command, "-D"); i >= 0 && i+1 < len(postgres.Command) {
		return postgres.Command[i+1]
	}
	return ""
}

// fixedSettings returns the names of the settings on the server's command line.
func fixedSettings(postgres *guestspec.Service) (names []string) {
	for i, arg := range postgres.Command {
		if name, _, ok := strings.Cut(arg, "="); ok && i > 0 && postgres.Command[i-1] == "-c" {
			names = append(names, name)
		}
	}
	return names
}

// mounted returns an error if the data disk or a volume is not mounted.
func (m *machine) mounted() error {
	for _, d := range m.disks() {
		if fault := d.Status().Fault; fault != "" {
			return fmt.Errorf("the %s is not mounted: %s", d.Name(), fault)
		}
	}
	return nil
}

// readyDatabase returns the description of PostgreSQL's service, or an error if it is not ready.
func (m *machine) readyDatabase() (*guestspec.Service, error) {
	services, _ := m.supervisor.Status()
	spec, service := m.describedService(guestspec.ServicePostgres, services)
	if spec == nil || !strings.HasPrefix(spec.Ready.Postgres, "/") {
		return nil, errors.New("this machine has no PostgreSQL")
	}
	if service.State != guestapi.StateReady {
		return nil, fmt.Errorf("PostgreSQL is %s: %s", service.State, service.Reason)
	}
	return spec, nil
}

// describedService finds the named service's description and state.
func (m *machine) describedService(name string, services []guestapi.Service) (*guestspec.Service, guestapi.Service) {
	for i := range m.spec.Services {
		if m.spec.Services[i].Name != name {
			continue
		}
		for _, s := range services {
			if s.Name == name {
				return &m.spec.Services[i], s
			}
		}
	}
	return nil, guestapi.Service{}
}

// kernelRelease returns the output of uname -r.
func kernelRelease() string {
	var u unix.Utsname
	unix.Uname(&u) // cannot fail with a valid pointer
	return unix.ByteSliceToString(u.Release[:])
}
