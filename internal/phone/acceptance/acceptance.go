// Package acceptance is the test of a machine that a user trusts: it does what the machine is for, as somebody who uses it
// would, and says for each step whether it went well. The layers below are package diagnose's, which looks for causes.
package acceptance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/phone/diagnose"
)

// A Verdict is how a check ended.
type Verdict string

// Verdicts.
const (
	Passed  Verdict = "passed"
	Failed  Verdict = "failed"
	Skipped Verdict = "skipped" // the machine does without it, or it cannot be seen from here
)

// Names of checks, in their order.
const (
	Process      = "process"
	Network      = "network"
	Ping         = "ping"
	SQL          = "SQL"
	Clock        = "clock"
	Tailscale    = "Tailscale"
	TailscaleSQL = "SQL over Tailscale"
)

// A Check is one step.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`            // what was seen
	Advice  string  `json:"advice,omitempty"` // what to do where it failed
	Millis  int64   `json:"ms"`               // how long it took
}

// A Report is a whole test.
type Report struct {
	Name    string           `json:"name"` // the machine's
	Checks  []Check          `json:"checks"`
	Tailnet []netip.AddrPort `json:"tailnet,omitempty"` // where the database is on the tailnet
}

// Failed reports whether a check failed.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Verdict == Failed })
}

// ErrNoPassword is that the superuser has none, so that nobody can log in over the network.
var ErrNoPassword = errors.New("the superuser has no password, so nobody can log in over the network")

// Sources do what the checks are of. They are bounded in time by the context.
type Sources interface {
	// Diagnose looks at all layers.
	Diagnose(ctx context.Context) diagnose.Report
	// Ping sends an ICMP echo request to the guest and returns how long its answer took.
	Ping(ctx context.Context) (time.Duration, error)
	// Database is where PostgreSQL is on the TAP network, and on the tailnet; not valid where there is none.
	Database(ctx context.Context) (tap netip.AddrPort, tailnet []netip.AddrPort)
	// Query logs in over the network, writes and reads, and returns the server's version.
	Query(ctx context.Context, address netip.AddrPort) (string, error)
	// OnTailnet reports whether this computer is on a tailnet itself.
	OnTailnet() bool
}

// bound is for each check.
const bound = 20 * time.Second

// Run makes all checks of the machine, one after the other.
func Run(ctx context.Context, name string, s Sources) Report {
	t := &test{ctx: ctx, s: s, report: Report{Name: name}}
	var layers diagnose.Report
	t.check(Process, func(ctx context.Context) Check {
		layers = s.Diagnose(ctx)
		return of(layers, diagnose.Process)
	})
	t.check(Network, func(context.Context) Check { return of(layers, diagnose.TAP, diagnose.Routing, diagnose.Forwarding) })
	t.check(Ping, t.ping)
	tap, tailnet := s.Database(ctx)
	t.report.Tailnet = tailnet
	t.check(SQL, func(ctx context.Context) Check { return t.sql(ctx, tap) })
	t.check(Clock, func(context.Context) Check { return of(layers, diagnose.GuestClock) })
	t.check(Tailscale, func(context.Context) Check { return of(layers, diagnose.Tailscale) })
	t.check(TailscaleSQL, func(ctx context.Context) Check { return t.tailscaleSQL(ctx, layers, tailnet) })
	return t.report
}

type test struct {
	ctx    context.Context
	s      Sources
	report Report
}

func (t *test) check(name string, do func(context.Context) Check) {
	ctx, cancel := context.WithTimeout(t.ctx, bound)
	defer cancel()
	start := time.Now()
	c := do(ctx)
	c.Name, c.Millis = name, time.Since(start).Milliseconds()
	t.report.Checks = append(t.report.Checks, c)
}

func passed(format string, args ...any) Check {
	return Check{Verdict: Passed, Found: fmt.Sprintf(format, args...)}
}

func skipped(found string) Check { return Check{Verdict: Skipped, Found: found} }

func failed(found, advice string) Check {
	return Check{Verdict: Failed, Found: found, Advice: advice}
}

const seeDiagnose = "sov diagnose names the layer that is broken"

// of is what was found of some layers: the first that is not well, else the last.
func of(r diagnose.Report, layers ...diagnose.Layer) Check {
	c := failed("nobody looked at it", seeDiagnose)
	for _, l := range r.Layers {
		if !slices.Contains(layers, l.Layer) {
			continue
		}
		switch l.Verdict {
		case diagnose.OK:
			c = passed("%s", l.Found)
		case diagnose.Off:
			c = skipped(l.Found)
		case diagnose.Broken:
			return failed(l.Title+": "+l.Found, l.Cause)
		default:
			return failed(l.Title+": "+l.Found, seeDiagnose)
		}
	}
	return c
}

func (t *test) ping(ctx context.Context) Check {
	took, err := t.s.Ping(ctx)
	if err != nil {
		return failed(err.Error(), seeDiagnose)
	}
	return passed("the guest answered in %v", took.Round(10*time.Microsecond))
}

func (t *test) sql(ctx context.Context, address netip.AddrPort) Check {
	if !address.IsValid() {
		return skipped("this machine offers no PostgreSQL")
	}
	version, err := t.s.Query(ctx, address)
	switch {
	case errors.Is(err, ErrNoPassword):
		return failed(err.Error(), fmt.Sprintf("give it one, the secret postgres, and restart: sov secrets set %s postgres, sov push %[1]s", t.report.Name))
	case err != nil:
		return failed(fmt.Sprintf("%s: %v", address, err), seeDiagnose)
	}
	return passed("PostgreSQL %s at %s logs in, writes and reads", version, address)
}

func (t *test) tailscaleSQL(ctx context.Context, layers diagnose.Report, addresses []netip.AddrPort) Check {
	switch c := of(layers, diagnose.Tailscale); {
	case c.Verdict == Skipped:
		return c
	case c.Verdict == Failed:
		return failed("it is not connected", "see the check before this one")
	case len(addresses) == 0:
		return skipped("this machine offers no PostgreSQL on the tailnet")
	case !t.s.OnTailnet():
		return skipped(fmt.Sprintf("the phone itself is not on the tailnet; from a computer that is: psql -h %s -U postgres", addresses[0].Addr()))
	}
	version, err := t.s.Query(ctx, addresses[0])
	if err != nil {
		return failed(fmt.Sprintf("%s: %v", addresses[0], err), "do the tailnet's access rules let this node reach the machine's?")
	}
	return passed("PostgreSQL %s at %s logs in, writes and reads", version, addresses[0])
}

var words = map[Verdict]string{Passed: "ok", Failed: "FAILED", Skipped: "-"}

// Print writes a report for people.
func (r Report) Print(w io.Writer) error {
	var b strings.Builder
	failures := 0
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-18s  %-6s  %s\n", c.Name, words[c.Verdict], c.Found)
		if c.Verdict == Failed {
			failures++
			if c.Advice != "" {
				fmt.Fprintf(&b, "%28s%s\n", "", c.Advice)
			}
		}
	}
	if failures == 0 {
		fmt.Fprintf(&b, "\n%s passed\n", r.Name)
	} else {
		fmt.Fprintf(&b, "\n%s: %d of %d checks failed\n", r.Name, failures, len(r.Checks))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
