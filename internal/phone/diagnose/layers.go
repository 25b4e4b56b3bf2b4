package diagnose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// ErrNoPostgres says that a machine does not have PostgreSQL.
var ErrNoPostgres = errors.New("this machine publishes no PostgreSQL")

// Limits of the difference between the guest's clock and the phone's.
const (
	// clockTolerance is small enough for all protocols.
	clockTolerance = 2 * time.Second
	// clockBroken is the difference at which TLS certificates and Tailscale's handshakes begin to
	// fail.
	clockBroken = time.Minute
)

// A looker checks the layers with the data read at the start.
type looker struct {
	ctx           context.Context
	sources       Sources
	status        *health.Machine
	fault         error // the error of Status
	before, after time.Time
	uplink        network.Uplink
	network       []finding.Finding
	networkFault  error
	reached       bool
	doubtful      bool // PostgreSQL does not answer although the guest reports it as ready
}

// runs reports whether the machine is running.
func (l *looker) runs() bool { return l.fault == nil && l.status.CrosvmAlive }

// networked reports whether the machine should be in the phone's network. It is removed when the
// machine does not run.
func (l *looker) networked() bool {
	return l.fault == nil && !slices.Contains([]runnerapi.Phase{runnerapi.Down, runnerapi.Backoff, runnerapi.Off, runnerapi.CrashLoop, runnerapi.Failed, runnerapi.LowBattery, runnerapi.Locked}, l.status.Phase)
}

func (l *looker) process() finding.Finding {
	r := finding.Finding{Examined: "the daemon's lock and state, crosvm among the processes", Verdict: finding.Failed, Fixable: true}
	if l.fault != nil {
		r.Found, r.Cause, r.Fixable = l.fault.Error(), "the machine is not installed, or its folder was changed by hand", false
		return r
	}
	s := l.status
	switch {
	case s.DaemonAlive && s.CrosvmAlive:
		r.Verdict, r.Fixable = finding.OK, false
		r.Found = fmt.Sprintf("daemon %d, crosvm %d", s.Daemon, s.Crosvm)
		if s.Phase != runnerapi.NotReady { // another layer is the cause
			r.Found += ", " + string(s.Phase)
		}
		for _, d := range s.Disks {
			if d.Encryption != "" {
				r.Found += fmt.Sprintf(", disk %s encrypted (%s)", d.Name, d.Encryption)
			}
		}
	case s.CrosvmAlive:
		r.Found = fmt.Sprintf("crosvm %d runs without its daemon", s.Crosvm)
		r.Cause = "the daemon was killed, by a person or for want of memory"
	case s.DaemonAlive && s.Phase == runnerapi.Backoff:
		r.Found = "crosvm has ended: " + s.Reason
		r.Cause = fmt.Sprintf("failure %d in a row; the daemon starts it again at %s", s.Failures, s.NextStart.Local().Format(time.TimeOnly))
	case s.DaemonAlive && s.Phase == runnerapi.LowBattery:
		r.Found, r.Cause, r.Fixable = "the machine was shut down", s.Reason, false
	case s.DaemonAlive && s.Phase == runnerapi.Locked:
		r.Found, r.Cause, r.Fixable = "the machine is locked", s.Reason, false
	case s.DaemonAlive && (s.Phase == runnerapi.CrashLoop || s.Phase == runnerapi.Failed || s.Phase == runnerapi.Off):
		r.Found, r.Cause = string(s.Phase)+": "+s.Reason, "read the console (sov logs "+s.Name+"); sov start "+s.Name+" tries once more"
		r.Fixable = s.Phase == runnerapi.Off // a repeated failure needs the user
	case s.DaemonAlive:
		r.Found, r.Cause = fmt.Sprintf("the daemon (%d, %s) has no crosvm", s.Daemon, s.Phase), "crosvm has just been killed or is being started; or the daemon is suspended"
	default:
		r.Found, r.Cause = "nothing runs", "it was not started, or the phone was restarted without the module"
		if s.Reason != "" {
			r.Cause = s.Reason
		}
	}
	return r
}

// onPhone returns the result of a layer of the phone's network from its findings.
func (l *looker) onPhone(layer string, examined, whole string) finding.Finding {
	r := finding.Finding{Examined: examined, Verdict: finding.OK, Found: whole}
	switch {
	case !l.networked():
		r.Verdict, r.Found = finding.Unknown, "the machine is not running and has no network"
		return r
	case l.networkFault != nil:
		r.Verdict, r.Found = finding.Unknown, l.networkFault.Error()
		return r
	}
	var found, causes []string
	for _, f := range l.network {
		if f.Check != layer {
			continue
		}
		r.Verdict = finding.Failed
		found = append(found, f.Found)
		if !slices.Contains(causes, f.Cause) {
			causes = append(causes, f.Cause)
		}
		r.Fixable = r.Fixable || f.Fixable
	}
	if r.Verdict == finding.Failed {
		r.Found, r.Cause = strings.Join(found, "; "), strings.Join(causes, "; ")
	}
	return r
}

func (l *looker) tap() finding.Finding {
	whole := "is up, has its address, and crosvm has it open"
	if l.fault == nil {
		whole = l.status.Network.TAP + " " + whole
	}
	return l.onPhone(network.LayerTAP, "the interface, its address, MTU and carrier", whole)
}

func (l *looker) routing() finding.Finding {
	whole := "the rules are there, the uplink is " + l.uplink.String()
	if l.fault == nil {
		for _, warning := range l.status.Network.Warnings {
			whole += "; warning: " + warning
		}
	}
	return l.onPhone(network.LayerRouting, "the policy rules, the default route, the uplink", whole)
}

func (l *looker) forwarding() finding.Finding {
	return l.onPhone(network.LayerForwarding, "ip_forward, rp_filter, the machine's chains and the jumps to them", "packets are let through and translated")
}

func (l *looker) guestNetwork() finding.Finding {
	r := finding.Finding{Examined: "the guest's endpoint over the TAP interface, and its own view of the link", Verdict: finding.Failed}
	if !l.runs() {
		r.Verdict, r.Found = finding.Unknown, "no machine runs"
		return r
	}
	if l.status.Guest != nil {
		l.reached = true
		return ownView(r, l.status.Guest.Network)
	}
	err := l.sources.Reach(l.ctx)
	booting := l.status.Phase == runnerapi.Starting || l.status.Phase == runnerapi.Booting
	switch {
	case err == nil:
		r.Found = "something accepts connections, and does not answer as the guest should: " + l.status.GuestFault
		r.Cause = "sov-init in the guest is stuck or of another version; restart the machine"
	case booting:
		r.Found, r.Cause = fmt.Sprintf("no answer yet: %v", err), "the guest is still booting; if that lasts, its console says where it is"
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Found, r.Cause = "the guest answers, and refuses the connection", "the guest's endpoint does not run: its console says why"
	case errors.Is(err, syscall.EHOSTUNREACH):
		r.Found, r.Cause = "no answer to ARP on the TAP interface", "the guest's interface is down or has another address, or the guest hangs; its console shows what happened"
	default:
		r.Found, r.Cause = fmt.Sprintf("no answer: %v", err), "the guest hangs, or drops the phone's packets; its console shows what happened"
	}
	return r
}

// ownView returns the guest's report about its link, which works from the phone's side.
func ownView(r finding.Finding, n *guestapi.Network) finding.Finding {
	r.Verdict, r.Found = finding.OK, "the guest answers"
	switch {
	case n == nil:
	case n.Fault != "":
		r.Verdict, r.Found, r.Cause = finding.Failed, n.Fault, "the guest could not set up its link; its console says why"
	case n.Gateway == "":
		r.Verdict, r.Found, r.Cause = finding.Failed, n.Interface+" has no default route", "it was removed in the guest; restart the machine"
	default:
		r.Found = fmt.Sprintf("the guest answers: %s %s via %s", n.Interface, n.Address, n.Gateway)
	}
	return r
}

// unreached returns the result of a layer that only the guest can report, if the guest was not
// reached.
func (l *looker) unreached(examined string) (finding.Finding, bool) {
	return finding.Finding{Examined: examined, Verdict: finding.Unknown, Found: "the guest does not answer"}, !l.reached
}

func (l *looker) guestClock() finding.Finding {
	r, unreached := l.unreached("the guest's clock beside the phone's")
	if unreached {
		return r
	}
	// The guest answered between two readings of the phone's clock: use the difference to the
	// nearer one.
	offset := time.Duration(0)
	switch now := l.status.Guest.Time; {
	case now.Before(l.before):
		offset = now.Sub(l.before)
	case now.After(l.after):
		offset = now.Sub(l.after)
	}
	r.Verdict, r.Found = finding.OK, "within "+max(l.after.Sub(l.before), time.Millisecond).Round(time.Millisecond).String()+" of the phone's"
	if offset.Abs() > clockTolerance {
		r.Found = fmt.Sprintf("%s %s the phone's", offset.Abs().Round(time.Second), direction(offset))
	}
	c := l.status.Guest.Clock
	if c != nil {
		r.Found += "; " + keptBy(c)
	}
	if offset.Abs() > clockBroken {
		r.Verdict = finding.Failed
		r.Cause = "the phone slept, or its clock was set, and the guest has not heard of it yet: TLS and Tailscale fail; a minute later it has"
		if offset > 0 {
			r.Cause = "the phone's clock was set back, or the guest's forward: TLS and Tailscale fail; it is not set back while services run, but at a restart of the machine"
		}
		if c != nil && c.Fault != "" {
			r.Cause = c.Fault
		}
	}
	return r
}

// keptBy describes the source of the guest's clock.
func keptBy(c *guestapi.Clock) string {
	switch {
	case c.Fault != "":
		return c.Fault
	case c.LastSync.IsZero():
		return "set at boot, and not synchronized yet"
	default:
		return strings.TrimSpace("kept by " + c.Source + " " + c.Server)
	}
}

func direction(offset time.Duration) string {
	if offset < 0 {
		return "behind"
	}
	return "ahead of"
}

func (l *looker) tailscale() finding.Finding {
	r, unreached := l.unreached("tailscaled's state, as the guest tells it")
	if unreached {
		return r
	}
	t := l.status.Tailnet
	switch {
	case t == nil:
		r.Verdict, r.Found = finding.Skipped, "this image does not keep a tailnet connection"
	case t.State == guestapi.TailnetOff:
		r.Verdict, r.Found = finding.Skipped, "no auth key was given: one in secrets/"+l.status.Name+"/tailscale puts it on the tailnet"
	case t.State == "Running" && t.Fault == "":
		r.Verdict, r.Found = finding.OK, fmt.Sprintf("%s at %s", t.Hostname, strings.Join(t.Addresses, ", "))
		if t.Warning != "" {
			r.Verdict, r.Advice = finding.Warning, t.Warning
		}
	default:
		r.Verdict, r.Found, r.Cause = finding.Failed, "tailscaled is "+t.State, "the guest has no way to the control server, or is waiting for it"
		if t.State == "NeedsLogin" {
			r.Cause = "its key has expired, or its auth key was refused: put a new one into secrets/" + l.status.Name + "/tailscale and restart the machine"
		}
		if t.Fault != "" {
			r.Cause = t.Fault
		}
	}
	return r
}

func (l *looker) postgres() finding.Finding {
	r, unreached := l.unreached("the server's first answer over the TAP interface, and its service in the guest")
	if unreached {
		return r
	}
	err := l.sources.Postgres(l.ctx)
	if errors.Is(err, ErrNoPostgres) {
		r.Verdict, r.Found = finding.Skipped, err.Error()
		return r
	}
	service := l.status.Service(guestspec.ServicePostgres)
	saidReady := service == nil || service.State == guestapi.StateReady
	if err == nil && saidReady {
		r.Verdict, r.Found = finding.OK, "it answers"
		if d := l.status.Database; d != nil && d.Version != "" {
			r.Found = fmt.Sprintf("PostgreSQL %s answers, %d connections", d.Version, d.Connections)
		}
		l.warnOfSettings(&r)
		return r
	}
	l.doubtful = saidReady
	r.Verdict, r.Found = finding.Failed, fmt.Sprint(err)
	r.Cause = "its port is not let through in the guest, or it listens elsewhere"
	if !saidReady {
		r.Found = "the service is " + service.State
		r.Cause = service.Reason
		if last := service.LastLine(); last != "" {
			r.Cause = strings.TrimPrefix(r.Cause+"; it said last: "+last, "; ")
		}
	}
	for _, d := range l.status.Disks {
		if d.Warning != "" {
			r.Cause = d.Warning
		}
	}
	return r
}

// warnOfSettings warns of settings with which the server did not start, and of those that have no
// effect.
func (l *looker) warnOfSettings(r *finding.Finding) {
	d := l.status.Database
	if d != nil && len(d.Ignored) > 0 {
		r.Verdict = finding.Warning
		r.Found += ", and ALTER SYSTEM has no effect on settings of the machine's own: " + strings.Join(d.Ignored, ", ")
		r.Cause = "the recipe sets them: postgres.port, postgres.listen, postgres.tls, postgres.networks"
		r.Advice = "remove them with ALTER SYSTEM RESET"
	}
	if d == nil || len(d.Aside) == 0 {
		return
	}
	var aside []string
	for _, a := range d.Aside {
		aside = append(aside, a.String())
	}
	r.Verdict = finding.Warning
	r.Found += ", without settings of ALTER SYSTEM that were put aside: " + strings.Join(aside, "; ")
	r.Cause = "the server did not start with them, or `sov repair` put them aside"
	r.Advice = fmt.Sprintf("make those that are right again with ALTER SYSTEM; `sov repair %s --forget` then removes the file", l.status.Name)
}

// services lists every service of the guest. It fails unless all are ready and the last scheduled
// runs succeeded.
func (l *looker) services() finding.Finding {
	r, unreached := l.unreached("the guest's services, each by its own check")
	if unreached {
		return r
	}
	r.Verdict = finding.OK
	var all, causes []string
	for _, s := range l.status.Services {
		all = append(all, s.Name+" "+s.Summary())
		switch {
		case !s.Ready():
			r.Verdict = finding.Failed
			causes = append(causes, s.Describe()+" (`sov logs "+l.status.Name+" --service "+s.Name+"`)")
		case s.Schedule != nil && s.Schedule.Failed:
			r.Verdict = finding.Failed
			causes = append(causes, "the last run of "+s.Name+" failed (`sov logs "+l.status.Name+" --service "+s.Name+"`)")
		}
	}
	r.Found = cmp.Or(strings.Join(all, ", "), "this image has none")
	if !l.status.Guest.Ready && r.Verdict == finding.OK {
		r.Verdict = finding.Failed
		causes = slices.Clone(l.status.Guest.Problems)
		if l.status.Guest.Stopping {
			causes = append(causes, "the guest shuts down")
		}
	}
	r.Cause = strings.Join(causes, "; ")
	return r
}
