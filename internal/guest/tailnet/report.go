package tailnet

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// Report returns the tailnet's part of the guest's status. The daemon listens on socket, has its
// state in the file state (empty: in memory) and runs as service; hasKey says whether the config
// disk has an auth key. A fault may quote the control server's message, which may contain the key:
// the caller must redact it.
func Report(ctx context.Context, socket, state string, service guestapi.Service, hasKey bool) guestapi.Tailnet {
	r := new(record)
	if state != "" {
		if known, err := loadRecord(state); err == nil {
			r = known
		}
	}
	if service.State == guestapi.StateOff {
		return guestapi.Tailnet{State: guestapi.TailnetOff, Fault: service.Reason + ": to join a tailnet, set the secret tailscale to an auth key and restart"}
	}
	status, err := NewClient(socket).status(ctx)
	if err != nil {
		fault := err.Error()
		if service.State != guestapi.StateReady {
			fault = fmt.Sprintf("tailscaled is %s: %s", service.State, service.Reason)
		}
		return guestapi.Tailnet{State: stateNoState, Fault: fault}
	}
	t := describe(status, hasKey)
	if state == "" {
		t.ID = "" // an ephemeral node goes by itself
	}
	if r.Lost != "" && status.State == stateNeedsLogin && !status.HaveNodeKey {
		t.Fault, t.Old = r.lostFault(), r.old()
	}
	return t
}

// describe converts tailscaled's status to the endpoint's.
func describe(s *daemonStatus, hasKey bool) guestapi.Tailnet {
	t := guestapi.Tailnet{State: s.State, Fault: fault(s, hasKey)}
	if s.Self == nil {
		return t
	}
	t.Hostname, t.Online, t.Warning = s.Self.name(), s.Self.Online, suffixWarning(s.Self.HostName, s.Self.name())
	if s.HaveNodeKey {
		t.ID = s.Self.ID
	}
	for _, address := range s.Self.TailscaleIPs {
		t.Addresses = append(t.Addresses, address.String())
	}
	if s.Self.KeyExpiry != nil {
		t.KeyExpiry = *s.Self.KeyExpiry
	}
	return t
}

// suffixWarning returns a warning if the tailnet has added a number to the name because another
// node has it.
func suffixWarning(wanted, name string) string {
	number, ok := strings.CutPrefix(name, strings.ToLower(wanted)+"-")
	if _, err := strconv.ParseUint(number, 10, 16); !ok || err != nil || wanted == "" {
		return ""
	}
	return fmt.Sprintf("the node is called %s on its tailnet, since another one, perhaps an earlier life of this machine, is called %s: "+
		"remove that one in the tailnet's admin console and rename this one there, or give the machine another name (tailscale.hostname)", name, wanted)
}

// fault describes why the node is not on its tailnet, and what to do.
func fault(s *daemonStatus, hasKey bool) string {
	said := ""
	if len(s.Health) > 0 {
		said = "; tailscaled says: " + strings.Join(s.Health, "; ")
	}
	switch {
	case s.State == stateNeedsMachineAuth:
		return "the node waits for an administrator of the tailnet to approve it"
	case s.State == stateStopped:
		return "the node was taken off its tailnet by hand: `tailscale up` brings it back"
	case s.State == stateNeedsLogin && s.HaveNodeKey:
		return "the tailnet does not take the node's key any more (it has expired, or the machine was removed): renew it in the tailnet's " +
			"admin console, or give the machine a new auth key (the secret tailscale) and restart it" + said
	case s.State == stateNeedsLogin && !hasKey:
		return "the node has not joined and there is no auth key: set the secret tailscale and restart"
	case s.State == stateNeedsLogin:
		return "the node has not joined yet: the auth key may be used up, expired or wrong, or the control server out of reach" + said
	case s.State == stateNoState:
		return "the node waits for the control server to answer" + said
	case s.State == stateRunning && (s.Self == nil || !s.Self.Online):
		return "the control server is not heard of" + said
	}
	return ""
}
