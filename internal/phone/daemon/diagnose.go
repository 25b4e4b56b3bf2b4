package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// A patient is a machine under diagnosis.
type patient struct {
	root     phonepath.Root
	vm       phonepath.VM
	artifact *artifact
	network  network.VM
	host     *network.Host
}

// Diagnose finds the broken layer of a machine. With fix, it first repairs the phone's network and
// starts a machine that is not running. The report describes the state after the repair, even if
// that failed.
func Diagnose(ctx context.Context, root phonepath.Root, name string, fix bool, up UpOptions) (*health.Machine, error) {
	p, err := newPatient(root, name, up.Report)
	if err != nil {
		return nil, err
	}
	report := diagnose.Run(ctx, name, p)
	if !fix || !slices.ContainsFunc(report.Layers, func(f finding.Finding) bool { return f.Fixable }) {
		return report, nil
	}
	done, err := p.fix(ctx, report, up)
	if err != nil {
		err = fmt.Errorf("repair %s: %w", name, err)
	}
	report = diagnose.Run(ctx, name, p)
	report.Fixed = done
	return report, err
}

func newPatient(root phonepath.Root, name string, log func(string)) (*patient, error) {
	if log == nil {
		log = func(string) {}
	}
	vm, err := lookUp(root, name)
	if err != nil {
		return nil, err
	}
	settings, err := loadSettings(root)
	if err != nil {
		return nil, err
	}
	a, err := loadArtifact(root, settings, vm)
	if err != nil {
		return nil, err
	}
	settings.apply(a.spec)
	host, err := network.Open(network.Options{Ledger: root.Ledger(), IPTables: settings.IPTables, Log: log})
	if err != nil {
		return nil, err
	}
	return &patient{root, vm, a, a.network(root, settings, log), host}, nil
}

// fix makes the possible repairs and returns descriptions of them.
func (p *patient) fix(ctx context.Context, report *health.Machine, up UpOptions) ([]string, error) {
	var done []string
	if p.networkIsBroken(report) {
		changes, err := p.host.Up(ctx, p.network)
		done = append(done, changes.Changed...)
		if err != nil {
			return done, err
		}
	}
	state, err := Up(ctx, p.root, p.vm.Name, up)
	if err == nil && report.Layers[0].Verdict == finding.Failed {
		done = append(done, "started the machine, which is "+string(state.Phase))
	}
	return done, err
}

func (p *patient) networkIsBroken(report *health.Machine) bool {
	return slices.ContainsFunc(report.Layers, func(f finding.Finding) bool {
		return f.Fixable && f.Check != diagnose.Process
	})
}

// Status implements diagnose.Sources.
func (p *patient) Status(ctx context.Context) (*health.Machine, error) {
	m, err := Status(ctx, p.root, p.vm.Name)
	if err == nil && m.CrosvmAlive && !m.Network.Database.IsValid() {
		// Daemons of earlier versions do not write the database's address.
		m.Network.Database = databaseOf(p.artifact.spec)
		databaseAt(m, m.Network.Database)
	}
	return m, err
}

// Network implements diagnose.Sources.
func (p *patient) Network(context.Context) (network.Uplink, []finding.Finding, error) {
	return p.host.Check(p.network)
}

// Reach implements diagnose.Sources.
func (p *patient) Reach(ctx context.Context) error {
	conn, err := dial(ctx, endpoint(p.artifact.spec))
	if err != nil {
		return err
	}
	return conn.Close()
}

// Postgres implements diagnose.Sources.
func (p *patient) Postgres(ctx context.Context) error {
	address := databaseOf(p.artifact.spec)
	if !address.IsValid() {
		return diagnose.ErrNoPostgres
	}
	_, err := probeDatabase(ctx, address)
	return err
}

// Now implements diagnose.Sources.
func (p *patient) Now() time.Time { return time.Now() }
