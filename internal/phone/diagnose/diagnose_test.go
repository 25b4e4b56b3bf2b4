package diagnose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// scene is a machine and its faults.
type scene struct {
	status   health.Machine
	fault    error
	findings []finding.Finding
	reach    error
	postgres error
}

func (s *scene) Status(context.Context) (*health.Machine, error) { return &s.status, s.fault }
func (s *scene) Network(context.Context) (network.Uplink, []finding.Finding, error) {
	return network.Uplink{Interface: "wlan0", Table: 1010}, s.findings, nil
}
func (s *scene) Reach(context.Context) error    { return s.reach }
func (s *scene) Postgres(context.Context) error { return s.postgres }
func (s *scene) Now() time.Time                 { return now }

func whole() *scene {
	s := &scene{}
	s.status.Name, s.status.Phase, s.status.Daemon, s.status.Crosvm = "sql", runnerapi.Ready, 10, 11
	s.status.DaemonAlive, s.status.CrosvmAlive = true, true
	s.status.Network.TAP = "vm_sql"
	s.status.AddGuest(&guestapi.Status{Time: now, Ready: true,
		Network:  &guestapi.Network{Interface: "eth0", Up: true, Address: "192.168.100.2/24", Gateway: "192.168.100.1"},
		Tailnet:  &guestapi.Tailnet{State: "Running", Hostname: "sovereign-sql", Addresses: []string{"100.64.0.1"}},
		Services: []guestapi.Service{{Name: "postgres", State: guestapi.StateReady}}})
	return s
}

func (s *scene) deaf(reach error) {
	s.status.Guest, s.status.GuestFault, s.reach = nil, "no answer", reach
}

func TestRun(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*scene)
		cause  string
		says   string // a part of the text
	}{
		"encrypted": {func(s *scene) { s.status.Disks[0].Encryption = guestapi.LUKS2 }, "", "disk data encrypted (luks2)"},
		"locked": {func(s *scene) {
			s.status.Phase, s.status.Reason, s.status.CrosvmAlive, s.status.Guest = runnerapi.Locked, "its key is elsewhere", false, nil
		}, Process, "the machine is locked"},
		"whole":         {func(*scene) {}, "", "nothing is broken"},
		"not installed": {func(s *scene) { s.fault = errors.New("no such machine") }, Process, "no such machine"},
		"down":          {func(s *scene) { s.status = health.Machine{}; s.status.Phase = runnerapi.Down }, Process, "nothing runs"},
		"orphan":        {func(s *scene) { s.status.DaemonAlive = false }, Process, "runs without its daemon"},
		"killed":        {func(s *scene) { s.status.CrosvmAlive = false; s.deaf(errors.New("x")) }, Process, "has no crosvm"},
		"back-off": {func(s *scene) {
			s.status.CrosvmAlive, s.status.Phase, s.status.Reason = false, runnerapi.Backoff, "it crashed"
		}, Process, "it crashed"},
		"crash loop": {func(s *scene) {
			s.status.CrosvmAlive, s.status.Phase, s.status.Reason = false, runnerapi.CrashLoop, "panics"
		}, Process, "crash-loop: panics"},
		"service fails": {func(s *scene) {
			s.status.Phase, s.status.Reason, s.status.Guest.Ready = runnerapi.NotReady, "forge is backoff: exit status 1", false
			s.status.Services = append(s.status.Services, guestapi.Service{Name: "forge", State: guestapi.StateBackoff})
		}, Services, "forge has ended and will be started again"},
		"service fails while the machine boots": {func(s *scene) { // it has never been ready
			s.status.Phase, s.status.Guest.Ready = runnerapi.Booting, false
			s.status.Services = append(s.status.Services, guestapi.Service{Name: "forge", State: guestapi.StateLooping, Reason: "exit status 1"})
		}, Services, "postgres ready, forge crash-loop"},
		"service failed for good": {func(s *scene) {
			s.status.Guest.Ready = false
			s.status.Services = append(s.status.Services, guestapi.Service{Name: "forge", State: guestapi.StateFailed, Reason: "no secret"})
		}, Services, "forge is failed: no secret (`sov logs sql --service forge`)"},
		"scheduled": {func(s *scene) {
			s.status.Services = append(s.status.Services, guestapi.Service{Name: "job", State: guestapi.StateScheduled, Schedule: &guestapi.Schedule{Next: now}})
		}, "", "postgres ready, job scheduled, has not run since boot, next 2026-01-02 03:04 UTC"},
		"scheduled run failed": {func(s *scene) {
			s.status.Services = append(s.status.Services, guestapi.Service{Name: "job", State: guestapi.StateScheduled,
				Schedule: &guestapi.Schedule{LastStart: now, LastEnd: now, Failed: true, Result: "exit status 4", Next: now}})
		}, Services, "the last run of job failed"},
		"no service": {func(s *scene) { s.status.Services = nil }, "", "this image has none"},
		"database fails first": {func(s *scene) {
			s.status.Phase, s.status.Reason, s.status.Guest.Ready = runnerapi.NotReady, "postgres is backoff", false
			s.status.Services[0].State = guestapi.StateBackoff
		}, Postgres, "the service is backoff"},
		"settings put aside": {func(s *scene) {
			s.status.Database = &health.Database{Postgres: guestapi.Postgres{Ready: true, Version: "17.6",
				Aside: []guestapi.SettingsAside{{File: "/data/x.aside-1", Settings: []string{"hba_file", "work_mem"}}, {File: "/data/x.aside-2"}}}}
		}, "", "without settings of ALTER SYSTEM that were put aside: hba_file, work_mem, kept in /data/x.aside-1; a damaged file, kept as /data/x.aside-2"},
		"settings put aside, what to do": {func(s *scene) {
			s.status.Database = &health.Database{Postgres: guestapi.Postgres{Aside: []guestapi.SettingsAside{{File: "/data/x.aside-1"}}}}
		}, "", "`sov repair sql --forget` then removes the file"},
		"settings without effect": {func(s *scene) {
			s.status.Database = &health.Database{Postgres: guestapi.Postgres{Ready: true, Ignored: []string{"hba_file", "port"}}}
		}, "", "ALTER SYSTEM has no effect on settings of the machine's own: hba_file, port"},
		"database says why": {func(s *scene) {
			s.postgres = errors.New("refused")
			s.status.Services[0] = guestapi.Service{Name: "postgres", State: guestapi.StateBackoff, Reason: "FATAL:  no room",
				LastOutput: []string{"2026 [12] FATAL:  no room", "LOG:  database system is shut down"}}
		}, Postgres, "likely: FATAL:  no room\n"},
		"name with a number": {func(s *scene) { s.status.Tailnet.Warning = "another one is called box" }, "", "warning  Tailscale"},
		"no TAP": {func(s *scene) {
			s.findings = []finding.Finding{{Check: network.LayerTAP, Verdict: finding.Failed, Found: "gone", Fixable: true}}
			s.deaf(syscall.EHOSTUNREACH)
		}, TAP, "--fix repairs this"},
		"no rule": {func(s *scene) {
			s.findings = []finding.Finding{{Check: network.LayerRouting, Verdict: finding.Failed, Found: "no rule"}}
		}, Routing, "no rule"},
		"no forwarding": {func(s *scene) {
			s.findings = []finding.Finding{{Check: network.LayerForwarding, Verdict: finding.Failed, Found: "flushed"}}
		}, Forwarding, "flushed"},
		"guest hangs":   {func(s *scene) { s.deaf(syscall.EHOSTUNREACH) }, GuestNetwork, "no answer to ARP"},
		"endpoint dead": {func(s *scene) { s.deaf(syscall.ECONNREFUSED) }, GuestNetwork, "refuses the connection"},
		"booting":       {func(s *scene) { s.deaf(syscall.EHOSTUNREACH); s.status.Phase = runnerapi.Booting }, GuestNetwork, "still booting"},
		"no gateway":    {func(s *scene) { s.status.Guest.Network.Gateway = "" }, GuestNetwork, "no default route"},
		"clock behind":  {func(s *scene) { s.status.Guest.Time = now.Add(-time.Hour) }, GuestClock, "1h0m0s behind"},
		"clock ahead":   {func(s *scene) { s.status.Guest.Time = now.Add(time.Hour) }, GuestClock, "1h0m0s ahead of"},
		"clock kept": {func(s *scene) {
			s.status.Guest.Clock = &guestapi.Clock{Source: "sntp", Server: "192.168.100.1", LastSync: now}
		}, "", "kept by sntp 192.168.100.1"},
		"clock far ahead": {func(s *scene) {
			s.status.Guest.Time = now.Add(time.Hour)
			s.status.Guest.Clock = &guestapi.Clock{Source: "sntp", LastSync: now, Fault: "it is ahead and runs slower"}
		}, GuestClock, "runs slower"},
		"clock a bit off": {func(s *scene) { s.status.Guest.Time = now.Add(-10 * time.Second) }, "", "10s behind"},
		"login needed":    {func(s *scene) { s.status.Tailnet.State = "NeedsLogin" }, Tailscale, "its key has expired"},
		"no key":          {func(s *scene) { s.status.Tailnet.State = guestapi.TailnetOff }, "", "secrets/sql/tailscale"},
		"no Tailscale":    {func(s *scene) { s.status.Tailnet = nil }, "", "does not keep a tailnet"},
		"database deaf":   {func(s *scene) { s.postgres = errors.New("timeout") }, Postgres, "timeout"},
		"database failed": {func(s *scene) {
			s.status.Services[0] = guestapi.Service{Name: "postgres", State: "failed", Reason: "other major version"}
		}, Postgres, "other major version"},
		"disk full": {func(s *scene) {
			s.postgres, s.status.Disks[0].Data = errors.New("x"), guestapi.Data{Size: 8 << 30, Free: 1, Warning: "the data disk is full: make room"}
		}, Postgres, "data disk is full"},
		"no database at all": {func(s *scene) { s.postgres = ErrNoPostgres }, "", "publishes no PostgreSQL"},
	} {
		t.Run(name, func(t *testing.T) {
			s := whole()
			tt.change(s)
			report := Run(t.Context(), "sql", s)
			var text strings.Builder
			if err := Print(&text, report); err != nil {
				t.Fatal(err)
			}
			if report.Cause != tt.cause {
				t.Errorf("the cause is %q, want %q\n%s", report.Cause, tt.cause, text.String())
			}
			if !strings.Contains(text.String(), tt.says) {
				t.Errorf("it does not say %q:\n%s", tt.says, text.String())
			}
			if p := report.Layers[0]; p.Fixable && (report.Cause == Process && slices.Contains([]string{"crash loop", "not installed"}, name)) {
				t.Errorf("it promises that --fix repairs %+v", p)
			}
			for _, l := range report.Layers {
				if (l.Verdict == finding.Unknown || l.Verdict == finding.Failed) && l.Check != report.Cause && l.ConsequenceOf == "" {
					t.Errorf("%s is %s, and no consequence of anything", l.Check, l.Verdict)
				}
			}
		})
	}
}

// TestTwoCauses: two layers that do not depend on each other may both be broken.
func TestTwoCauses(t *testing.T) {
	s := whole()
	s.findings = []finding.Finding{{Check: network.LayerForwarding, Verdict: finding.Failed, Found: "flushed"}}
	s.postgres = errors.New("timeout")
	report := Run(t.Context(), "sql", s)
	if report.Cause != Forwarding || report.Layers[7].Verdict != finding.Failed || report.Layers[7].ConsequenceOf != "" {
		t.Errorf("%+v", report)
	}
}

// TestSilentMeanwhile: if a guest stops answering after a good status, the guest is the cause and
// not its database.
func TestSilentMeanwhile(t *testing.T) {
	s := whole()
	s.postgres = syscall.EHOSTUNREACH
	report := Run(t.Context(), "sql", &fading{scene: s})
	if report.Cause != GuestNetwork || report.Layers[7].ConsequenceOf != GuestNetwork {
		t.Errorf("%+v", report)
	}
}

// fading is a scene whose guest answers once.
type fading struct {
	*scene
	asked bool
}

func (f *fading) Status(ctx context.Context) (*health.Machine, error) {
	if f.asked {
		f.deaf(syscall.EHOSTUNREACH)
	}
	f.asked = true
	return f.scene.Status(ctx)
}

func ExamplePrint() {
	s := whole()
	s.findings = []finding.Finding{{Check: network.LayerTAP, Verdict: finding.Failed, Found: "there is no interface vm_sql", Cause: "someone deleted it", Fixable: true}}
	s.deaf(syscall.EHOSTUNREACH)
	var text strings.Builder
	_ = Print(&text, Run(context.Background(), "sql", s))
	fmt.Print(text.String())
	// Output:
	// ok       VM process          daemon 10, crosvm 11, ready
	// FAILED   TAP interface       there is no interface vm_sql
	//                              likely: someone deleted it
	//                              --fix repairs this
	// ok       policy routing      the rules are there, the uplink is wlan0 (table 1010)
	// ok       NAT and forwarding  packets are let through and translated
	// FAILED   guest network       no answer to ARP on the TAP interface
	//                              a consequence of TAP interface
	// ?        guest clock         the guest does not answer
	//                              a consequence of TAP interface
	// ?        Tailscale           the guest does not answer
	//                              a consequence of TAP interface
	// ?        PostgreSQL          the guest does not answer
	//                              a consequence of TAP interface
	// ?        services            the guest does not answer
	//                              a consequence of TAP interface
	//
	// sql: the cause is TAP interface
}
