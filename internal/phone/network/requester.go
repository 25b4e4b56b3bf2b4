package network

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/vishvananda/netlink"
)

// ipForward lets the kernel forward packets (ip-sysctl, ip_forward).
var ipForward = sysctl{Path: "net/ipv4/ip_forward", Value: "1"}

// requesterName is sov's name in requests to netd.
const requesterName = "sov"

// A requester is a named request to netd for forwarding. At each request and withdrawal netd sets
// ip_forward to 1 while a request exists, else to 0 (server/TetherController.cpp, setIpFwdEnabled).
// So the end of a hotspot does not stop a machine's forwarding, and the reverse. A restarted netd
// has lost all requests.
type requester struct {
	Name string `json:"requester"`
}

// forwarding returns the resource that enables forwarding: a request to netd if ndc exists, else
// the kernel's parameter.
func (h *Host) forwarding() resource {
	if h.ndc == "" {
		return ipForward
	}
	return requester{requesterName}
}

func (r requester) String() string { return "request to netd for forwarding, as " + r.Name }

func (r requester) kind() string { return "ipfwd" }

func (r requester) valid() bool { return r.Name == requesterName }

func (r requester) foreign() bool { return false }

// exists reports whether forwarding is enabled by sov's request.
func (r requester) exists(h *Host) (bool, error) {
	on, err := ipForward.exists(h)
	return on && (h.held == nil || h.held.find(r) >= 0), err
}

func (r requester) current(h *Host) (string, error) { return ipForward.current(h) }

// make writes the kernel's parameter if netd does not accept the request.
func (r requester) make(h *Host) error {
	if err := h.askNetd("enable"); err != nil {
		h.log(fmt.Sprintf("ask netd for forwarding: %v: the end of a hotspot will switch it off for a moment", err))
	}
	if on, err := ipForward.exists(h); on || err != nil {
		return err
	}
	return ipForward.make(h)
}

func (r requester) undo(h *Host, before string) error {
	if h.ndc != "" && h.askNetd("disable") == nil {
		return nil // netd knows the other requesters
	}
	return ipForward.undo(h, before)
}

func (r requester) missing() finding.Finding { return ipForward.missing() }

// askAgain repeats the request after a resource had to be re-created: netd may have restarted and
// lost it.
func (h *Host) askAgain() {
	if h.ndc != "" {
		_ = h.askNetd("enable") // make has reported a netd that does not accept it
	}
}

const (
	ndcTimeout = 10 * time.Second
	ndcOK      = "200" // ResponseCode::CommandOkay
)

// askNetd enables or disables forwarding under sov's name.
func (h *Host) askNetd(verb string) error {
	ctx, cancel := context.WithTimeout(context.Background(), ndcTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, h.ndc, "ipfwd", verb, requesterName).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return fmt.Errorf("%s ipfwd %s %s: %w: %s", h.ndc, verb, requesterName, err, said)
	}
	if !strings.HasPrefix(said, ndcOK) {
		return fmt.Errorf("%s ipfwd %s %s: %s", h.ndc, verb, requesterName, said)
	}
	return nil
}

// tetheringPriority is the priority of netd's rules for a hotspot's clients
// (server/RouteController.h).
const tetheringPriority = 21000

// tethers reports whether tethering, such as a hotspot, needs forwarding, by netd's rules and
// chain.
func (h *Host) tethers() (bool, error) {
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return false, fmt.Errorf("read the policy rules: %w", err)
	}
	if slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Priority == tetheringPriority }) {
		return true, nil
	}
	chain, err := h.tables.content(tableFilter, "tetherctrl_FORWARD")
	return slices.ContainsFunc(chain, func(rule string) bool { return rule != "-j DROP" }), err
}
