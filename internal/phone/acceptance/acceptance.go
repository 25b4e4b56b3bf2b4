// Package acceptance is the user's test of a machine: it uses the machine as a client would and
// reports whether each step succeeded. Package diagnose tests the layers below and finds causes.
package acceptance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
)

// Names of checks, in their order.
const (
	Process      = "process"
	Network      = "network"
	Ping         = "ping"
	SQL          = "SQL"
	Certificate  = "certificate"
	Clock        = "clock"
	Tailscale    = "Tailscale"
	TailscaleSQL = "SQL over Tailscale"
	Services     = "services"
)

// A NoPasswordError says that a role has no password, so that it cannot log in over the network.
type NoPasswordError struct{ vmspec.Login }

func (e *NoPasswordError) Error() string {
	return fmt.Sprintf("the role %s has no password, so it cannot log in over the network", e.Role)
}

// Sources performs the operations of the checks. The context limits their time.
type Sources interface {
	// Diagnose checks all layers.
	Diagnose(ctx context.Context) *health.Machine
	// Ping sends an ICMP echo request to the guest and returns the round-trip time.
	Ping(ctx context.Context) (time.Duration, error)
	// Query logs in over the network, writes and reads, and returns the server's version.
	Query(ctx context.Context, address netip.AddrPort, as vmspec.Login) (string, error)
	// RemoteLogin returns a role that can log in from a tailnet, and false if there is none.
	RemoteLogin() (vmspec.Login, bool)
	// OnTailnet reports whether this computer is on a tailnet.
	OnTailnet() bool
}

// bound is the time limit of each check.
const bound = 20 * time.Second

// Run makes all checks of the machine, one after the other, and returns its status with their
// findings. If the machine is not running, that is the only finding, because others may have its
// addresses then.
func Run(ctx context.Context, name string, s Sources) *health.Machine {
	t := &test{ctx: ctx, s: s, m: health.New(name)}
	t.check(Process, func(ctx context.Context) finding.Finding {
		t.m = s.Diagnose(ctx)
		f := t.of(diagnose.Process)
		if f.Verdict == finding.Failed && !t.m.CrosvmAlive {
			f.Advice = fmt.Sprintf("it does not run: `sov start %s` starts it", name)
		}
		return f
	})
	if !t.m.CrosvmAlive {
		return t.m
	}
	t.check(Network, func(context.Context) finding.Finding {
		return t.of(diagnose.TAP, diagnose.Routing, diagnose.Forwarding)
	})
	t.check(Ping, t.ping)
	t.check(SQL, t.sql)
	t.check(Certificate, t.certificate)
	t.check(Clock, func(context.Context) finding.Finding { return t.of(diagnose.GuestClock) })
	t.check(Tailscale, func(context.Context) finding.Finding { return t.of(diagnose.Tailscale) })
	t.check(TailscaleSQL, t.tailscaleSQL)
	t.check(Services, func(context.Context) finding.Finding { return t.of(diagnose.Services) })
	return t.m
}

type test struct {
	ctx context.Context
	s   Sources
	m   *health.Machine
}

func (t *test) check(name string, do func(context.Context) finding.Finding) {
	ctx, cancel := context.WithTimeout(t.ctx, bound)
	defer cancel()
	start := time.Now()
	f := do(ctx)
	f.Check, f.Title, f.Millis = name, "", time.Since(start).Milliseconds()
	t.m.Checks = append(t.m.Checks, f)
}

func passed(format string, args ...any) finding.Finding { return finding.Pass("", format, args...) }

func skipped(found string) finding.Finding { return finding.Skip("", found) }

func failed(found, advice string) finding.Finding { return finding.Fail("", found, advice) }

const seeDiagnose = "sov diagnose names the layer that is broken"

// of returns the finding of the first of some layers that is not OK, else that of the last.
func (t *test) of(layers ...string) finding.Finding {
	found := failed("it was not checked", seeDiagnose)
	for _, l := range t.m.Layers {
		if !slices.Contains(layers, l.Check) {
			continue
		}
		switch l.Verdict {
		case finding.Failed:
			return failed(l.String(), l.Cause)
		case finding.Unknown:
			return failed(l.String(), seeDiagnose)
		}
		if found.Verdict != finding.Warning {
			found = finding.Finding{Verdict: l.Verdict, Found: l.Found}
		}
		if l.Verdict == finding.Warning {
			found.Cause, found.Advice = l.Cause, l.Advice
		}
	}
	return found
}

func (t *test) ping(ctx context.Context) finding.Finding {
	took, err := t.s.Ping(ctx)
	if err != nil {
		return failed(err.Error(), seeDiagnose)
	}
	return passed("the guest answered in %v", took.Round(10*time.Microsecond))
}

// noDatabase is the finding for a machine that does not publish PostgreSQL.
const noDatabase = "this machine offers no PostgreSQL"

func (t *test) sql(ctx context.Context) finding.Finding {
	address := t.m.Network.Database
	if !address.IsValid() {
		return skipped(noDatabase)
	}
	f := t.query(ctx, address, vmspec.Superuser, seeDiagnose)
	if layer := t.of(diagnose.Postgres); f.Verdict == finding.OK && layer.Verdict == finding.Warning {
		f.Verdict, f.Cause, f.Advice = layer.Verdict, layer.Cause, layer.Advice
		f.Found += "; " + layer.Found
	}
	return f
}

// query logs in as a role; advice is for an address that refuses the login.
func (t *test) query(ctx context.Context, address netip.AddrPort, as vmspec.Login, advice string) finding.Finding {
	version, err := t.s.Query(ctx, address, as)
	switch {
	case errors.As(err, new(*NoPasswordError)):
		return failed(err.Error(), fmt.Sprintf("give it one and restart it: `sov secrets generate %s %s`, `sov push %[1]s --restart`", t.m.Name, as.Secret))
	case err != nil:
		return failed(fmt.Sprintf("%s: %v", address, err), advice)
	}
	return passed("PostgreSQL %s at %s logs in, writes and reads", version, address)
}

// expiring is how long before its expiry the test warns of a certificate that was not renewed: a
// quarter of its lifetime, and at most this long. A public authority may issue it for weeks only.
const expiring = 21 * 24 * time.Hour

// certificate checks the database's certificate against the phone's clock.
func (t *test) certificate(context.Context) finding.Finding {
	c := t.m.Certificate
	if c == nil {
		return skipped("the database offers no TLS")
	}
	advice := "replace the secrets that postgres.tls names, and restart the machine"
	if t.m.Database != nil && (t.m.Database.Authority != "" || t.m.Database.Public != nil) {
		advice = fmt.Sprintf("the machine renews it automatically: `sov logs %s` shows why it has not", t.m.Name)
	}
	until := c.NotAfter.Format(time.DateOnly)
	switch now := t.m.Asked; {
	case now.Before(c.NotBefore):
		return failed(fmt.Sprintf("of %s, valid only from %s", c.Subject, c.NotBefore.Format(time.DateOnly)), "is the phone's clock right?")
	case now.After(c.NotAfter):
		return failed(fmt.Sprintf("of %s, expired on %s", c.Subject, until), advice)
	case c.NotAfter.Sub(now) < min(expiring, c.NotAfter.Sub(c.NotBefore)/4):
		return finding.Finding{Verdict: finding.Warning, Found: fmt.Sprintf("of %s, expires on %s", c.Subject, until), Advice: advice}
	}
	return passed("of %s, valid until %s", c.Subject, until)
}

func (t *test) tailscaleSQL(ctx context.Context) finding.Finding {
	var addresses []netip.AddrPort
	if t.m.Database != nil {
		addresses = t.m.Database.Tailnet
	}
	as, let := t.s.RemoteLogin()
	switch f := t.of(diagnose.Tailscale); {
	case f.Verdict == finding.Skipped:
		return f
	case f.Verdict == finding.Failed:
		return failed("it is not connected", "see the check before this one")
	case len(addresses) == 0:
		return skipped(noDatabase + " on the tailnet")
	case !let:
		return skipped("the superuser logs in from the host only, and the recipe lists no other role (postgres.roles)")
	case !t.s.OnTailnet():
		return skipped(fmt.Sprintf("the phone itself is not on the tailnet; from a computer that is: psql -h %s -U %s %s", addresses[0].Addr(), as.Role, as.Database))
	}
	return t.query(ctx, addresses[0], as, "do the tailnet's access rules let this node reach the machine's?")
}

// Print writes the findings of a test as text.
func Print(w io.Writer, m *health.Machine) error {
	if err := finding.Print(w, m.Checks); err != nil {
		return err
	}
	verdict := " passed"
	if n := len(finding.Failures(m.Checks)); n > 0 {
		verdict = fmt.Sprintf(": %d of %d checks failed", n, len(m.Checks))
	}
	_, err := fmt.Fprintf(w, "\n%s%s\n", m.Name, verdict)
	return err
}
