//go:build linux

package boot

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/guest/certificate"
	"github.com/sovereign-sql/sov/internal/guest/journal"
	"github.com/sovereign-sql/sov/internal/guest/tailnet"
)

// keepCertificate issues the services' certificate before they start, and renews it.
func (m *machine) keepCertificate(ctx context.Context) {
	k := &certificate.Keeper{
		Dir: filepath.Join(m.spec.Data.Path, guestspec.CertificateDir), Machine: m.hostname(), Services: m.spec.Services,
		Now: time.Now, Names: m.names,
		Reload: func(service string) { m.supervisor.Signal(service, unix.SIGHUP) },
		Log:    func(text string) { m.console.Log(journal.Warn, journal.InitName, text) },
	}
	if !k.Used() {
		return
	}
	wants := func(s guestspec.Service) bool { return s.TailnetCertificate }
	if spec := m.tailscale(); spec != nil && slices.ContainsFunc(m.spec.Services, wants) {
		k.Tailnet = tailnet.NewClient(spec.Ready.Unix)
	}
	m.problem("", k.Check(ctx))
	m.mu.Lock()
	m.certificates = k
	m.mu.Unlock()
	m.spawn("certificate", func() { k.Watch(ctx) })
	m.spawn("tailnet certificate", func() { k.WatchTailnet(ctx) })
}

// names returns the names and addresses by which clients connect to this machine. The first is its
// host name.
func (m *machine) names(ctx context.Context) []string {
	names := []string{m.hostname()}
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range []string{m.hostname() + ".internal", m.spec.Image.Name, m.spec.Image.Name + ".internal", "localhost", "127.0.0.1", "::1"} {
		add(strings.ToLower(name))
	}
	addresses, _ := net.InterfaceAddrs() // of the link and the tailnet; after an error clients use names only
	for _, a := range addresses {
		if prefix, ok := a.(*net.IPNet); ok && prefix.IP.IsGlobalUnicast() {
			add(prefix.IP.String())
		}
	}
	services, _ := m.supervisor.Status()
	if spec, service := m.describedService(guestspec.ServiceTailscale, services); spec != nil && spec.Ready.Unix != "" && service.State == guestapi.StateReady {
		ctx, cancel := context.WithTimeout(ctx, guestapi.StatusTime)
		defer cancel()
		for _, name := range tailnet.NewClient(spec.Ready.Unix).Names(ctx) {
			add(name)
		}
	}
	return names
}

// describeCertificate adds to the report which certificate the database uses.
func (m *machine) describeCertificate(spec *guestspec.Service, report *guestapi.Postgres) {
	m.mu.Lock()
	k := m.certificates
	m.mu.Unlock()
	if k == nil || spec.Certificate == "" {
		return
	}
	report.Authority = k.Authority()
	if !spec.TailnetCertificate {
		return
	}
	report.Public = new(guestapi.PublicCertificate)
	if name, _ := k.Shown(); name != "" {
		*report.Public = guestapi.PublicCertificate{Name: name, Authority: report.Authority, Own: k.Own()}
		report.Authority = ""
	}
}

// certificateWarning returns why services do not use the tailnet's certificate, or "".
func (m *machine) certificateWarning() string {
	m.mu.Lock()
	k := m.certificates
	m.mu.Unlock()
	if k == nil {
		return ""
	}
	_, why := k.Shown()
	if why == "" {
		return ""
	}
	return "the database shows a certificate of the machine's own authority in place of the tailnet's: " + why
}
