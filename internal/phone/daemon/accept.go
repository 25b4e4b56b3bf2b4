package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/phone/acceptance"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
)

// Test checks that a machine does what it is for.
func Test(ctx context.Context, root phonepath.Root, name string) (acceptance.Report, error) {
	p, err := newPatient(root, name, nil)
	if err != nil {
		return acceptance.Report{}, fmt.Errorf("test %s: %w", name, err)
	}
	return acceptance.Run(ctx, name, &candidate{patient: p}), nil
}

// A candidate is a machine that is tested.
type candidate struct {
	patient *patient
}

// Diagnose implements accept.Sources.
func (c *candidate) Diagnose(ctx context.Context) diagnose.Report {
	return diagnose.Run(ctx, c.patient.vm.Name, c.patient)
}

// Ping implements accept.Sources.
func (c *candidate) Ping(ctx context.Context) (time.Duration, error) {
	return acceptance.Echo(ctx, c.patient.network.Guest.Addr())
}

// Database implements accept.Sources.
func (c *candidate) Database(ctx context.Context) (tap netip.AddrPort, tailnet []netip.AddrPort) {
	port, ok := c.patient.artifact.spec.Port(guestspec.ServicePostgres)
	if !ok {
		return netip.AddrPort{}, nil
	}
	tap = netip.AddrPortFrom(c.patient.network.Guest.Addr(), uint16(port))
	status, err := c.patient.Status(ctx)
	if err != nil || status.Guest == nil || status.Guest.Tailnet == nil {
		return tap, nil
	}
	for _, text := range status.Guest.Tailnet.Addresses {
		if a, err := netip.ParseAddr(text); err == nil && guestspec.IsTailnet(a) {
			tailnet = append(tailnet, netip.AddrPortFrom(a, uint16(port)))
		}
	}
	return tap, tailnet
}

// Query implements accept.Sources.
func (c *candidate) Query(ctx context.Context, address netip.AddrPort) (string, error) {
	secrets, err := loadSecrets(c.patient.root, c.patient.vm)
	if err != nil {
		return "", err
	}
	password, ok := secrets[guestspec.ServicePostgres]
	if !ok {
		return "", acceptance.ErrNoPassword
	}
	return acceptance.Query(ctx, address, password, nil)
}

// OnTailnet implements accept.Sources.
func (c *candidate) OnTailnet() bool { return acceptance.OnTailnet() }
