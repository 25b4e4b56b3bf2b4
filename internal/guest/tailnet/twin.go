package tailnet

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// A Twin notices another machine that runs as the same node, by a copy of its state. Nothing tells
// a node of that: a relay (DERP) knows of two clients with one key and has a frame to say so, which
// Tailscale's relays do not send (v1.102.5, derp/derpserver), and the control server ends the
// earlier machine's connection, as it does when a node connects again.
//
// But each tailscaled makes a key for the discovery of paths when it starts (disco key), writes it
// to its log, and sends it to the control server, which tells the node what it knows of it. A key
// there that this tailscaled has not made is a twin's. The key of this machine's previous
// tailscaled may be there at the start, so of two machines it is the one that was started first
// that notices the other.
type Twin struct {
	mu    sync.Mutex
	own   string // the beginning of this tailscaled's key
	first string // of the first key that the control server had
	told  bool   // it has had own
	found bool
}

const (
	// discoLine precedes the key in tailscaled's log (wgengine/magicsock).
	discoLine = "magicsock: disco key = d:"
	// discoPrefix precedes the whole key where the control server tells it.
	discoPrefix = "discokey:"
	discoLength = 16 // digits of a key that the log has
)

// Output takes a line of tailscaled's log. The one of another key is of another process.
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
	case t.own == "": // the log has not come that far
	case key == t.own:
		t.told = true
	case !t.told && (t.first == "" || t.first == key):
		t.first = key
	default:
		t.found = true
	}
}

// Warning says what to do about a twin; empty: none was found since tailscaled started. After the
// twin has gone, the control server goes on having its key, and leads other nodes to it, until this
// tailscaled is started again.
func (t *Twin) Warning() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.found {
		return ""
	}
	return "another machine runs as this node, or did: two machines cannot be one node, and other nodes reach now one, now the other: " +
		"`sov repair NAME --tailnet new` on the one that is not to be this node, then `sov restart NAME` of the other"
}
