package tailnet

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// A Twin detects another machine that runs as the same node, with a copy of its state. A node gets
// no message about that: the protocol of relays (DERP) has a frame for two clients with one key,
// but Tailscale's relays do not send it (v1.102.5, derp/derpserver), and the control server ends
// the earlier machine's connection as if the node had reconnected.
//
// Each tailscaled generates a key for path discovery (disco key) when it starts, logs it, and sends
// it to the control server, which returns the key that it has for the node. A key that this
// tailscaled has not generated belongs to a twin. At the start, the control server may still have
// the key of this machine's previous tailscaled; therefore only the machine that was started first
// detects the other. It does so when the control server has the other's key, which a machine sends
// when it starts and when its addresses change.
type Twin struct {
	mu    sync.Mutex
	own   string // the first digits of this tailscaled's key
	first string // the first digits of the first key that the control server returned
	told  bool   // the control server has returned own
	found bool
}

const (
	// discoLine precedes the key in tailscaled's log (wgengine/magicsock).
	discoLine = "magicsock: disco key = d:"
	// discoPrefix precedes the key in the control server's answer.
	discoPrefix = "discokey:"
	discoLength = 16 // number of digits of a key in the log
)

// Output reads a line of tailscaled's log. A line with a key is from a new process.
func (t *Twin) Output(line string) {
	_, key, ok := strings.Cut(line, discoLine)
	if !ok || len(key) < discoLength {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.own, t.first, t.told, t.found = key[:discoLength], "", false, false
}

// Look compares this tailscaled's key with the one that the control server has.
func (t *Twin) Look(ctx context.Context, c *Client) error {
	status, err := c.status(ctx)
	if err != nil || status.State != stateRunning || status.Self == nil || len(status.Self.TailscaleIPs) == 0 {
		return err
	}
	var self struct{ Node struct{ DiscoKey string } }
	if err := c.do(ctx, http.MethodGet, "whois?addr="+url.QueryEscape(status.Self.TailscaleIPs[0].String()), nil, &self); err != nil {
		return err
	}
	if key, ok := strings.CutPrefix(self.Node.DiscoKey, discoPrefix); ok && len(key) >= discoLength {
		t.see(key[:discoLength])
	}
	return nil
}

func (t *Twin) see(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.own == "": // the log does not have it yet
	case key == t.own:
		t.told = true
	case !t.told && (t.first == "" || t.first == key):
		t.first = key
	default:
		t.found = true
	}
}

// Warning returns what to do about a twin, or "" if none was detected since tailscaled started. The
// control server keeps the key of a twin that has stopped, and directs other nodes to it, until
// this tailscaled is restarted.
func (t *Twin) Warning() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.found {
		return ""
	}
	return "another machine runs as this node, or did: two machines cannot be one node, and other nodes reach now one, now the other: " +
		"`sov repair NAME --tailnet new` on the one that is not to be this node, then `sov restart NAME` of the other"
}
