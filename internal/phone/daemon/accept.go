package daemon

import (
	"context"
	"net/netip"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/phone/acceptance"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
)

// Test runs the acceptance test of a machine.
func Test(ctx context.Context, root phonepath.Root, name string) (*health.Machine, error) {
	p, err := newPatient(root, name, nil)
	if err != nil {
		return nil, err
	}
	return acceptance.Run(ctx, name, &candidate{patient: p}), nil
}

// A candidate is a machine under test.
type candidate struct {
	patient   *patient
	authority string // the CA of the database's certificate, in PEM; empty if it is not the machine's own
}

// Diagnose implements acceptance.Sources.
func (c *candidate) Diagnose(ctx context.Context) *health.Machine {
	m := diagnose.Run(ctx, c.patient.vm.Name, c.patient)
	if m.Database != nil {
		c.authority = m.Database.Authority
	}
	return m
}

// Ping implements acceptance.Sources.
func (c *candidate) Ping(ctx context.Context) (time.Duration, error) {
	return acceptance.Echo(ctx, c.patient.network.Guest.Addr())
}

// Query implements acceptance.Sources.
func (c *candidate) Query(ctx context.Context, address netip.AddrPort, as vmspec.Login) (string, error) {
	secrets, err := loadSecrets(c.patient.root, c.patient.vm)
	if err != nil {
		return "", err
	}
	password, ok := secrets[as.Secret]
	if !ok {
		return "", &acceptance.NoPasswordError{Login: as}
	}
	return acceptance.Query(ctx, address, as, password, c.authority, nil)
}

// RemoteLogin implements acceptance.Sources.
func (c *candidate) RemoteLogin() (vmspec.Login, bool) { return c.patient.artifact.spec.RemoteLogin() }

// OnTailnet implements acceptance.Sources.
func (c *candidate) OnTailnet() bool { return acceptance.OnTailnet() }
