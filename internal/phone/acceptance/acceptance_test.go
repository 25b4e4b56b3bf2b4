package acceptance

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/diagnose"
)

// scene is the simulated state of a machine.
type scene struct {
	layers    map[string]finding.Finding
	ping      error
	query     error
	database  netip.AddrPort
	tailnet   []netip.AddrPort
	onTailnet bool
	noLogin   bool          // for clients on a tailnet
	expiry    time.Duration // of the certificate, from now; 0: a year
	life      time.Duration // of the certificate; 0: 366 days
}

func (s *scene) Diagnose(context.Context) *health.Machine {
	m := health.New("sql")
	m.CrosvmAlive = s.layers[diagnose.Process].Verdict != finding.Failed
	m.Network.Database, m.Database = s.database, &health.Database{Tailnet: s.tailnet}
	m.Asked = time.Now()
	if s.database.IsValid() {
		expiry := m.Asked.Add(cmp.Or(s.expiry, 365*24*time.Hour))
		m.Certificate = &health.Certificate{Subject: "CN=sql", NotBefore: expiry.Add(-cmp.Or(s.life, 366*24*time.Hour)), NotAfter: expiry}
	}
	for _, l := range []string{diagnose.Process, diagnose.TAP, diagnose.Routing, diagnose.Forwarding, diagnose.GuestNetwork,
		diagnose.GuestClock, diagnose.Tailscale, diagnose.Postgres, diagnose.Services} {
		result, ok := s.layers[l]
		if !ok {
			result = finding.Finding{Verdict: finding.OK, Found: "well"}
		}
		result.Check, result.Title = l, l
		m.Layers = append(m.Layers, result)
	}
	return m
}

func (s *scene) Ping(context.Context) (time.Duration, error) { return time.Millisecond, s.ping }
func (s *scene) OnTailnet() bool                             { return s.onTailnet }
func (s *scene) RemoteLogin() (vmspec.Login, bool)           { return app, !s.noLogin }

var app = vmspec.Login{Role: "app", Database: "shop", Secret: "role-app"}

// Query accepts the superuser only from the host, as new machines do.
func (s *scene) Query(_ context.Context, address netip.AddrPort, as vmspec.Login) (string, error) {
	if address != s.database && as == vmspec.Superuser {
		return "", errors.New("pg_hba.conf rejects connection")
	}
	return "17.5", s.query
}

func TestRun(t *testing.T) {
	tap := netip.MustParseAddrPort("192.168.100.2:5432")
	tailnet := []netip.AddrPort{netip.MustParseAddrPort("100.64.0.3:5432")}
	broken := func(l string) map[string]finding.Finding {
		return map[string]finding.Finding{l: {Verdict: finding.Failed, Found: "bad", Cause: "the cause"}}
	}
	for name, c := range map[string]struct {
		scene scene
		want  map[string]finding.Verdict // of checks that do not pass
		says  string
	}{
		"well":         {scene: scene{database: tap, tailnet: tailnet, onTailnet: true}},
		"not on it":    {scene{database: tap, tailnet: tailnet}, map[string]finding.Verdict{TailscaleSQL: finding.Skipped}, "psql -h 100.64.0.3 -U app shop"},
		"nobody":       {scene{database: tap, tailnet: tailnet, onTailnet: true, noLogin: true}, map[string]finding.Verdict{TailscaleSQL: finding.Skipped}, "lists no other role"},
		"no Tailscale": {scene{database: tap, layers: map[string]finding.Finding{diagnose.Tailscale: {Verdict: finding.Skipped, Found: "no key"}}}, map[string]finding.Verdict{Tailscale: finding.Skipped, TailscaleSQL: finding.Skipped}, "no key"},
		"expires":      {scene{database: tap, tailnet: tailnet, onTailnet: true, expiry: 20 * 24 * time.Hour}, map[string]finding.Verdict{Certificate: finding.Warning}, "expires on"},
		"short life":   {scene: scene{database: tap, tailnet: tailnet, onTailnet: true, expiry: 14 * 24 * time.Hour, life: 45 * 24 * time.Hour}},
		"expired":      {scene{database: tap, tailnet: tailnet, onTailnet: true, expiry: -time.Minute}, map[string]finding.Verdict{Certificate: finding.Failed}, "expired on"},
		"no database":  {scene{}, map[string]finding.Verdict{SQL: finding.Skipped, Certificate: finding.Skipped, TailscaleSQL: finding.Skipped}, "offers no"},
		"no password":  {scene{database: tap, tailnet: tailnet, query: &NoPasswordError{vmspec.Superuser}}, map[string]finding.Verdict{SQL: finding.Failed, TailscaleSQL: finding.Skipped}, "sov secrets generate sql postgres"},
		"no answer":    {scene{database: tap, tailnet: tailnet, onTailnet: true, ping: errors.New("silence"), query: errors.New("refused")}, map[string]finding.Verdict{Ping: finding.Failed, SQL: finding.Failed, TailscaleSQL: finding.Failed}, "refused"},
		"process":      {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.Process)}, map[string]finding.Verdict{Process: finding.Failed}, "sov start sql"},
		"routing":      {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.Routing)}, map[string]finding.Verdict{Network: finding.Failed}, "routing: bad"},
		"clock":        {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.GuestClock)}, map[string]finding.Verdict{Clock: finding.Failed}, "bad"},
		"services":     {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.Services)}, map[string]finding.Verdict{Services: finding.Failed}, "services: bad"},
		"Tailscale":    {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.Tailscale)}, map[string]finding.Verdict{Tailscale: finding.Failed, TailscaleSQL: finding.Failed}, "not connected"},
		"a name with a number": {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: map[string]finding.Finding{
			diagnose.Tailscale: {Verdict: finding.Warning, Found: "box-1", Advice: "remove the other"}}}, map[string]finding.Verdict{Tailscale: finding.Warning}, "→ remove the other"},
		"settings put aside": {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: map[string]finding.Finding{
			diagnose.Postgres: {Verdict: finding.Warning, Found: "without work_mem", Advice: "make it again"}}}, map[string]finding.Verdict{SQL: finding.Warning}, "without work_mem"},
	} {
		t.Run(name, func(t *testing.T) {
			report := Run(t.Context(), "sql", &c.scene)
			if want := 9; len(report.Checks) != want && (name != "process" || len(report.Checks) != 1) {
				t.Errorf("%d checks, want %d, or one of a machine that does not run", len(report.Checks), want)
			}
			fails := false
			for _, check := range report.Checks {
				want, ok := c.want[check.Check]
				if !ok {
					want = finding.OK
				}
				fails = fails || want == finding.Failed
				if check.Verdict != want {
					t.Errorf("%+v, want %s", check, want)
				}
			}
			var out bytes.Buffer
			if err := Print(&out, report); err != nil {
				t.Fatal(err)
			}
			if (len(finding.Failures(report.Checks)) > 0) != fails || !strings.Contains(out.String(), c.says) || fails != strings.Contains(out.String(), "FAILED") {
				t.Errorf("want failed: %t; it says\n%s", fails, out.String())
			}
		})
	}
}

func TestEcho(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: opens a raw socket")
	}
	took, err := Echo(t.Context(), netip.MustParseAddr("127.0.0.1"))
	if err != nil || took <= 0 {
		t.Errorf("%v, %v", took, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Echo(ctx, netip.MustParseAddr("127.0.0.1")); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	late := []byte{icmpEchoReply, 0, 0, 0, 0, 1, 0, 2}
	if replied(echoRequest(1, 2), 1) != 0 || replied(late[:7], 1) != 0 || replied(late, 7) != 0 {
		t.Error("a request, a part of a reply or another's is taken for a reply")
	}
	if replied(late, 1) != 2 {
		t.Error("a reply is taken for none")
	}
}
