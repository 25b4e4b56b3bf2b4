package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// A patient is a machine that is diagnosed.
type patient struct {
	root     phonepath.Root
	vm       phonepath.VM
	artifact *artifact
	network  network.VM
	host     *network.Host
}

// Diagnose finds out which layer of a machine is broken. With fix, what the phone can repair is repaired first: its
// network, and a machine that does not run, which is started. Where that fails, the report tells how things are then.
func Diagnose(ctx context.Context, root phonepath.Root, name string, fix bool, up UpOptions) (diagnose.Report, error) {
	p, err := newPatient(root, name, up.Report)
	if err != nil {
		return diagnose.Report{}, fmt.Errorf("diagnose %s: %w", name, err)
	}
	report := diagnose.Run(ctx, name, p)
	if !fix || !slices.ContainsFunc(report.Layers, func(r diagnose.Result) bool { return r.Fixable }) {
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
	vm, err := root.VM(name)
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

// fix repairs what the phone can, and returns what was done.
func (p *patient) fix(ctx context.Context, report diagnose.Report, up UpOptions) ([]string, error) {
	var done []string
	if p.networkIsBroken(report) {
		changes, err := p.host.Up(ctx, p.network)
		done = append(done, changes.Changed...)
		if err != nil {
			return done, err
		}
	}
	state, err := Up(ctx, p.root, p.vm.Name, up)
	if err == nil && report.Layers[0].Verdict == diagnose.Broken {
		done = append(done, "started the machine, which is "+string(state.Phase))
	}
	return done, err
}

func (p *patient) networkIsBroken(report diagnose.Report) bool {
	return slices.ContainsFunc(report.Layers, func(r diagnose.Result) bool {
		return r.Fixable && r.Layer != diagnose.Process
	})
}

// Status implements diagnose.Sources.
func (p *patient) Status(ctx context.Context) (*runnerapi.Status, error) {
	return Status(ctx, p.root, p.vm.Name)
}

// Network implements diagnose.Sources.
func (p *patient) Network(context.Context) (network.Uplink, []network.Finding, error) {
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

func dial(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
	// An unanswered ARP request is given up after 3 s, which says more than a timeout before.
	d := net.Dialer{Timeout: 5 * time.Second}
	return d.DialContext(ctx, "tcp", address.String())
}

// sslRequest asks a PostgreSQL server whether it speaks TLS, to which every server answers with one byte (PostgreSQL's
// documentation, "Message Formats", SSLRequest).
var sslRequest = binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103)

// Postgres implements diagnose.Sources.
func (p *patient) Postgres(ctx context.Context) error {
	i := slices.IndexFunc(p.artifact.spec.Ports, func(port vmspec.Port) bool { return port.Service == guestspec.ServicePostgres })
	if i < 0 {
		return diagnose.ErrNoPostgres
	}
	address := netip.AddrPortFrom(p.network.Guest.Addr(), uint16(p.artifact.spec.Ports[i].Port))
	conn, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer := make([]byte, 1)
	err = errors.Join(conn.SetDeadline(time.Now().Add(guestPatience)), send(conn, sslRequest))
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil {
		return fmt.Errorf("ask the server at %s: %w", address, err)
	}
	if !slices.Contains([]byte("SN"), answer[0]) {
		return fmt.Errorf("what answers at %s is no PostgreSQL server", address)
	}
	return nil
}

func send(w io.Writer, message []byte) error {
	_, err := w.Write(message)
	return err
}

// Now implements diagnose.Sources.
func (p *patient) Now() time.Time { return time.Now() }
