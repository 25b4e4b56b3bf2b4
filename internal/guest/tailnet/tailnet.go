// Package tailnet talks to this machine's tailscaled: it makes the node join its tailnet
// ([Client.Up]) and describes its state there ([Report]).
//
// It speaks the daemon's local API, HTTP over a Unix socket, which `tailscale` itself uses, and
// contains none of Tailscale's own code. So the key that lets a node join is never an argument of a
// process. Nothing ever waits for the tailnet: the daemon tries to join again and again, and
// [Report] says how far it is. Running the daemon is left to package supervision.
package tailnet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	// host is what the daemon wants to be asked as: a web page of a browser could not.
	host = "local-tailscaled.sock"
	// maxAnswer bounds what is read of an answer, in bytes. One about this node alone has a few
	// KiB, and another node adds one or two.
	maxAnswer = 4 << 20
)

// A Client asks one tailscaled.
type Client struct {
	socket string
}

// NewClient returns a client of the daemon that listens on socket.
func NewClient(socket string) *Client { return &Client{socket} }

// A daemonStatus is what the daemon says of itself.
type daemonStatus struct {
	State       string      `json:"BackendState"` // such as stateRunning
	HaveNodeKey bool        `json:"HaveNodeKey"`  // the node has joined once
	Health      []string    `json:"Health"`       // what is wrong, in a person's words
	Self        *selfStatus `json:"Self"`
}

// States of a daemon.
const (
	stateNoState          = "NoState" // it has not heard from the control server yet
	stateNeedsLogin       = "NeedsLogin"
	stateNeedsMachineAuth = "NeedsMachineAuth"
	stateStopped          = "Stopped"
	stateRunning          = "Running"
)

// selfStatus is this node as the tailnet has it.
type selfStatus struct {
	ID           string       `json:"ID"`
	PublicKey    string       `json:"PublicKey"`
	HostName     string       `json:"HostName"` // what the node calls itself
	DNSName      string       `json:"DNSName"`  // its name on the tailnet, with the domain
	TailscaleIPs []netip.Addr `json:"TailscaleIPs"`
	Online       bool         `json:"Online"`
	KeyExpiry    *time.Time   `json:"KeyExpiry"` // nil: never
}

// name is the node's name on the tailnet, which may carry a suffix where another has it already.
func (s *selfStatus) name() string {
	if name, _, _ := strings.Cut(s.DNSName, "."); name != "" {
		return name
	}
	return s.HostName
}

// status asks the daemon how it is.
func (c *Client) status(ctx context.Context) (*daemonStatus, error) {
	var s daemonStatus
	if err := c.do(ctx, http.MethodGet, "status?peers=false", nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// A Node is what a node is to be on its tailnet.
type Node struct {
	Hostname    string
	LoginServer string   // URL; empty: Tailscale's own
	Tags        []string // "tag:NAME"
	AuthKey     string   // may be empty
	State       string   // the path of tailscaled's state; empty: it is in memory
}

// What Up did.
const (
	Joining   = "the node joins its tailnet by its auth key"
	Rejoining = "the node has to log in, and joins its tailnet again by a new auth key"
	renamed   = "the node's name was changed"
	noKey     = "the node has not joined and there is no auth key"
	notAgain  = "the node's state was lost, and its auth key was used before: it does not join again by itself"
)

// Up makes the node what it is to be, and returns a line about what that took, if anything. A node
// that has joined keeps its key, and its name is looked after; the auth key is left alone unless
// the node has to log in and the key was not used before. Nor does a machine whose state was lost
// become a new node by a key that was.
func (c *Client) Up(ctx context.Context, n Node) (did string, err error) {
	status, err := c.status(ctx)
	if err != nil {
		return "", err
	}
	var prefs map[string]json.RawMessage
	if err := c.do(ctx, http.MethodGet, "prefs", nil, &prefs); err != nil {
		return "", err
	}
	r := new(record)
	if n.State != "" {
		if r, err = loadRecord(n.State); err != nil {
			return "", err
		}
	}
	did = Joining
	switch {
	case status.State == stateNeedsLogin && status.HaveNodeKey && r.mayRejoin(n.AuthKey):
		did = Rejoining
	case status.HaveNodeKey:
		return c.rename(ctx, prefs, n.Hostname)
	case n.AuthKey == "":
		return noKey, nil
	case !r.mayJoin(n.AuthKey):
		return notAgain, nil
	}
	if n.State != "" {
		r.Joining = digest(n.AuthKey)
		if err := r.store(n.State); err != nil {
			return "", err
		}
	}
	return did, c.join(ctx, prefs, n)
}

// Watch is called now and then while tailscaled runs. It records that the node has joined, and
// reports whether Up has to be called again: the node has to log in, and key was not used before.
// Settled says that there is nothing to wait for soon.
func (c *Client) Watch(ctx context.Context, state, key string) (again, settled bool, err error) {
	status, err := c.status(ctx)
	if err != nil {
		return false, false, err
	}
	r, err := loadRecord(state)
	if err != nil {
		return false, false, err
	}
	switch {
	case status.State == stateRunning:
		if r.Joining == "" && r.Lost == "" && !r.Allowed {
			return false, true, nil
		}
		r.use(r.Joining)
		r.Joining, r.Lost, r.Kept, r.Copied, r.Allowed = "", "", "", false, false
		return false, true, r.store(state)
	case status.State == stateNeedsLogin && status.HaveNodeKey:
		return r.mayRejoin(key), false, nil
	}
	return false, false, nil
}

// LogOut takes the node off its tailnet for ever. The control server has to answer, for half a
// minute at most.
func (c *Client) LogOut(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	status, err := c.status(ctx)
	if err != nil {
		return err
	}
	if !status.HaveNodeKey {
		return errors.New("the machine is not a node of a tailnet")
	}
	return c.do(ctx, http.MethodPost, "logout", nil, nil)
}

func (c *Client) rename(ctx context.Context, prefs map[string]json.RawMessage, name string) (string, error) {
	var has string
	if err := json.Unmarshal(prefs["Hostname"], &has); err == nil && has == name {
		return "", nil
	}
	change := map[string]any{"Hostname": name, "HostnameSet": true}
	return renamed, c.do(ctx, http.MethodPatch, "prefs", change, nil)
}

// join does as `tailscale up` does, but for waiting.
func (c *Client) join(ctx context.Context, prefs map[string]json.RawMessage, n Node) error {
	for name, value := range map[string]any{
		"ControlURL":    n.LoginServer,
		"Hostname":      n.Hostname,
		"AdvertiseTags": n.Tags,
		"WantRunning":   true,
		"LoggedOut":     false,
		// The machine serves its tailnet and takes nothing from it: neither names, for which it
		// would have to write to its read-only root, nor routes.
		"CorpDNS":  false,
		"RouteAll": false,
	} {
		raw, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("join the tailnet: %w", err)
		}
		prefs[name] = raw
	}
	delete(prefs, "Config") // the node's keys, which are not to be set
	if err := c.do(ctx, http.MethodPost, "start", map[string]any{"AuthKey": n.AuthKey, "UpdatePrefs": prefs}, nil); err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, "login-interactive", nil, nil)
}

// do makes one request and decodes the answer into out, unless that is nil. What was sent is in no
// error.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	name, _, _ := strings.Cut(path, "?")
	fail := func(err error) error { return fmt.Errorf("ask tailscaled: %s %s: %w", method, name, err) }
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fail(err)
		}
		body = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+host+"/localapi/v0/"+path, body)
	if err != nil {
		return fail(err)
	}
	response, answer, err := c.roundTrip(ctx, request) //nolint:bodyclose // roundTrip has read and closed it
	if err != nil {
		return fail(err)
	}
	if response.StatusCode/100 != 2 {
		return fail(fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(answer)))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fail(err)
	}
	return nil
}

// roundTrip sends a request on a connection of its own. An http.Client would do the same and bring
// HTTP/2 and proxies into a program that has to be small: 0.6 MB of it.
func (c *Client) roundTrip(ctx context.Context, request *http.Request) (*http.Response, []byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	// Whatever is under way fails when ctx ends.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(0, 1)) })()
	request.Close = true
	if err := request.Write(conn); err != nil {
		return nil, nil, errors.Join(context.Cause(ctx), err)
	}
	response, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), request)
	if err != nil {
		return nil, nil, errors.Join(context.Cause(ctx), err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, nil, errors.Join(context.Cause(ctx), err)
	}
	return response, answer, nil
}
