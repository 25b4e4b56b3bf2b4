//go:build linux

package boot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/guest/disk"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/network"
	"github.com/sovereign-sql/sov/internal/guest/seed"
)

// A standalone is a guest that runs from a disk image without a config disk. It gets its address by
// DHCP and generates the passwords of its database.
type standalone struct {
	*machine
	show     func(text string) // on the console only: the journal would store the text
	mark     string            // a file of the data disk: the passwords were shown
	password map[string]string // generated at this start, by the name of the secret; empty if they exist already
}

// passwordsShown is the name of the mark on the data disk.
const passwordsShown = ".sov-passwords-shown"

// firstLease is how long a start waits for an address. Services start without one after that.
const firstLease = 20 * time.Second

// standAlone prepares the guest for a start without a config disk. Only a seed of cloud-init can
// configure it.
func (m *machine) standAlone() *standalone {
	var err error
	if m.config, err = disk.ReadSeed(); err != nil && !errors.Is(err, seed.ErrNone) {
		m.problem("", err)
	}
	return m.withPasswords()
}

func (m *machine) withPasswords() *standalone {
	s := &standalone{machine: m, mark: filepath.Join(m.spec.Data.Path, passwordsShown), show: func(text string) { fmt.Fprint(openConsole(), text) }}
	if m.config.Secrets == nil {
		m.config.Secrets = map[string]string{}
	}
	s.password = newPasswords(m.spec.Services, m.config.Secrets)
	maps.Copy(m.config.Secrets, s.password)
	return s
}

// newPasswords generates the passwords of the database's roles that are missing in secrets. They
// are the secrets that the steps of its service read.
func newPasswords(services []guestspec.Service, secrets map[string]string) map[string]string {
	made := map[string]string{}
	for _, service := range services {
		if service.Name != guestspec.ServicePostgres {
			continue
		}
		for _, step := range slices.Concat(service.Prepare, service.PostReady) {
			if _, given := secrets[step.Secret]; step.Secret != "" && !given {
				made[step.Secret] = rand.Text()
			}
		}
	}
	return made
}

// goOnline loads a firewall with only the rules that do not depend on the guest's address, and then
// gets an address. It returns an error if the firewall could not be loaded.
func (s *standalone) goOnline(ctx context.Context) error {
	link, err := network.Find(s.spec.Network)
	if err != nil {
		s.problem("network", err)
		return nil
	}
	if err := s.firewall(link, configdisk.Network{}); err != nil {
		return err
	}
	s.link = link
	first := make(chan struct{})
	var now configdisk.Network
	s.spawn("DHCP", func() {
		network.KeepLease(ctx, link, s.hostname(), func(n configdisk.Network) {
			s.problem("firewall", s.firewall(link, n))
			s.problem("network", network.Configure(link, n))
			if now.Address.IsValid() && now.Address != n.Address {
				s.problem("network", network.Forget(link, now.Address))
			} else if !now.Address.IsValid() {
				defer close(first)
			}
			now = n
			attrs := []any{"interface", link, "address", n.Address}
			if n.Gateway.IsValid() {
				attrs = append(attrs, "gateway", n.Gateway)
			}
			s.console.Log(journal.Info, journal.InitName, "network configured by DHCP", attrs...)
		}, func(err error) { s.problem("network", err) })
	})
	select {
	case <-first:
	case <-time.After(firstLease):
	case <-ctx.Done():
	}
	return nil
}

func (s *standalone) firewall(link string, n configdisk.Network) error {
	return network.Firewall{Link: link, Subnet: n.Address, Gateway: n.Gateway, Endpoint: s.spec.Endpoint.Port, Open: s.spec.Firewall.Open}.Apply()
}

// replaceFiles mounts the files in guestspec.StandaloneDir over those of the same path.
func replaceFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		place := strings.TrimPrefix(path, dir)
		if err := unix.Mount(path, place, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("put %s in place of %s: %w", path, place, err)
		}
		return nil
	})
}

// growPartition makes the data partition of a disk image as large as the disk.
func (m *machine) growPartition(device string) {
	from, to, err := disk.GrowPartition(device)
	m.problem("data disk", err)
	if to > from {
		m.console.Log(journal.Info, journal.InitName, "data partition enlarged", "disk", device, "from_mib", from>>20, "to_mib", to>>20)
	}
}

// mounted checks the data disk before services start: if it has the mark, roles keep their
// passwords.
func (s *standalone) mounted() {
	if _, err := os.Lstat(s.mark); err != nil {
		return
	}
	for name := range s.password {
		delete(s.config.Secrets, name)
	}
	s.password = nil
}

// ready shows the generated passwords after the roles have them, and marks the data disk.
func (s *standalone) ready() {
	if len(s.password) == 0 {
		return
	}
	var b strings.Builder
	b.WriteString("\n--- passwords of the database, made at this first start and not shown again ---\n")
	for _, name := range slices.Sorted(maps.Keys(s.password)) {
		fmt.Fprintf(&b, "%s: %s\n", strings.TrimPrefix(name, "role-"), s.password[name])
	}
	b.WriteString("---\n")
	s.show(b.String())
	s.problem("mark that the passwords were shown", durable.WriteFile(s.mark, nil, 0o600))
}
