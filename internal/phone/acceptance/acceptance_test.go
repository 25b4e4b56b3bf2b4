package acceptance

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/phone/diagnose"
)

// scene is a machine as a test wants it.
type scene struct {
	layers    map[diagnose.Layer]diagnose.Result
	ping      error
	query     error
	database  netip.AddrPort
	tailnet   []netip.AddrPort
	onTailnet bool
}

func (s *scene) Diagnose(context.Context) diagnose.Report {
	r := diagnose.Report{Name: "sql"}
	for _, l := range []diagnose.Layer{diagnose.Process, diagnose.TAP, diagnose.Routing, diagnose.Forwarding, diagnose.GuestNetwork,
		diagnose.GuestClock, diagnose.Tailscale, diagnose.Postgres} {
		result, ok := s.layers[l]
		if !ok {
			result = diagnose.Result{Verdict: diagnose.OK, Found: "well"}
		}
		result.Layer, result.Title = l, string(l)
		r.Layers = append(r.Layers, result)
	}
	return r
}

func (s *scene) Ping(context.Context) (time.Duration, error) { return time.Millisecond, s.ping }
func (s *scene) Database(context.Context) (netip.AddrPort, []netip.AddrPort) {
	return s.database, s.tailnet
}
func (s *scene) Query(context.Context, netip.AddrPort) (string, error) { return "17.5", s.query }
func (s *scene) OnTailnet() bool                                       { return s.onTailnet }

func TestRun(t *testing.T) {
	tap := netip.MustParseAddrPort("192.168.100.2:5432")
	tailnet := []netip.AddrPort{netip.MustParseAddrPort("100.64.0.3:5432")}
	broken := func(l diagnose.Layer) map[diagnose.Layer]diagnose.Result {
		return map[diagnose.Layer]diagnose.Result{l: {Verdict: diagnose.Broken, Found: "bad", Cause: "the cause"}}
	}
	for name, c := range map[string]struct {
		scene scene
		want  map[string]Verdict // of checks that do not pass
		says  string
	}{
		"well":         {scene: scene{database: tap, tailnet: tailnet, onTailnet: true}},
		"not on it":    {scene{database: tap, tailnet: tailnet}, map[string]Verdict{TailscaleSQL: Skipped}, "psql -h 100.64.0.3"},
		"no Tailscale": {scene{database: tap, layers: map[diagnose.Layer]diagnose.Result{diagnose.Tailscale: {Verdict: diagnose.Off, Found: "no key"}}}, map[string]Verdict{Tailscale: Skipped, TailscaleSQL: Skipped}, "no key"},
		"no database":  {scene{}, map[string]Verdict{SQL: Skipped, TailscaleSQL: Skipped}, "offers no"},
		"no password":  {scene{database: tap, tailnet: tailnet, query: ErrNoPassword}, map[string]Verdict{SQL: Failed, TailscaleSQL: Skipped}, "sov secrets set sql postgres"},
		"no answer":    {scene{database: tap, tailnet: tailnet, onTailnet: true, ping: errors.New("silence"), query: errors.New("refused")}, map[string]Verdict{Ping: Failed, SQL: Failed, TailscaleSQL: Failed}, "refused"},
		"process":      {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.Process)}, map[string]Verdict{Process: Failed}, "the cause"},
		"routing":      {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.Routing)}, map[string]Verdict{Network: Failed}, "routing: bad"},
		"clock":        {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.GuestClock)}, map[string]Verdict{Clock: Failed}, "bad"},
		"Tailscale":    {scene{database: tap, tailnet: tailnet, onTailnet: true, layers: broken(diagnose.Tailscale)}, map[string]Verdict{Tailscale: Failed, TailscaleSQL: Failed}, "not connected"},
	} {
		t.Run(name, func(t *testing.T) {
			report := Run(t.Context(), "sql", &c.scene)
			if len(report.Checks) != 7 {
				t.Errorf("%d checks, want 7", len(report.Checks))
			}
			fails := false
			for _, check := range report.Checks {
				want, ok := c.want[check.Name]
				if !ok {
					want = Passed
				}
				fails = fails || want == Failed
				if check.Verdict != want {
					t.Errorf("%+v, want %s", check, want)
				}
			}
			var out bytes.Buffer
			if err := report.Print(&out); err != nil {
				t.Fatal(err)
			}
			if report.Failed() != fails || !strings.Contains(out.String(), c.says) || fails != strings.Contains(out.String(), "FAILED") {
				t.Errorf("failed: %t, want %t; it says\n%s", report.Failed(), fails, out.String())
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
