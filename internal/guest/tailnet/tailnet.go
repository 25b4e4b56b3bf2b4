// Package tailnet controls this machine's tailscaled: it joins the node to its tailnet
// ([Client.Up]) and reports its state ([Report]).
//
// It uses the daemon's local API, HTTP over a Unix socket, like `tailscale` itself, but does not
// contain Tailscale's code. Through the API the auth key is never an argument of a process. No call
// waits for the tailnet: the daemon keeps trying to join, and [Report] returns its state. Package
// supervision runs the daemon.
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
	// host is the Host header that the daemon requires, to refuse requests from web pages.
	host = "local-tailscaled.sock"
	// maxAnswer is the largest response, in bytes. A response about this node only has a few KiB;
	// each other node adds one or two.
	maxAnswer = 4 << 20
)

// A Client is a client of one tailscaled.
type Client struct {
	socket string
}

// NewClient returns a client of the daemon that listens on socket.
func NewClient(socket string) *Client { return &Client{socket} }

// A daemonStatus is the daemon's status.
type daemonStatus struct {
	State       string      `json:"BackendState"` // such as stateRunning
	HaveNodeKey bool        `json:"HaveNodeKey"`  // the node has joined once
	Health      []string    `json:"Health"`       // problems, as texts
	Self        *selfStatus `json:"Self"`
	CertDomains []string    `json:"CertDomains"` // names for which the tailnet has certificates
}

// States of a daemon.
const (
	stateNoState          = "NoState" // the control server has not answered yet
	stateNeedsLogin       = "NeedsLogin"
	stateNeedsMachineAuth = "NeedsMachineAuth"
	stateStopped          = "Stopped"
	stateRunning          = "Running"
)

// selfStatus is this node's status on the tailnet.
type selfStatus struct {
	ID           string       `json:"ID"`
	PublicKey    string       `json:"PublicKey"`
	HostName     string       `json:"HostName"` // the requested name
	DNSName      string       `json:"DNSName"`  // its name on the tailnet, with the domain
	TailscaleIPs []netip.Addr `json:"TailscaleIPs"`
	Online       bool         `json:"Online"`
	KeyExpiry    *time.Time   `json:"KeyExpiry"` // nil: never
}

// fullName returns the node's name on the tailnet including the domain.
func (s *selfStatus) fullName() string { return strings.TrimSuffix(s.DNSName, ".") }

// name returns the node's name on the tailnet. It may have a suffix if another node has the
// requested name.
func (s *selfStatus) name() string {
	if name, _, _ := strings.Cut(s.DNSName, "."); name != "" {
		return name
	}
	return s.HostName
}

// status requests the daemon's status.
func (c *Client) status(ctx context.Context) (*daemonStatus, error) {
	var s daemonStatus
	if err := c.do(ctx, http.MethodGet, "status?peers=false", nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// A Node is the desired configuration of a node.
type Node struct {
	Hostname    string
	LoginServer string   // URL; empty: Tailscale's own
	Tags        []string // "tag:NAME"
	AuthKey     string   // may be empty
	State       string   // path of tailscaled's state; empty if it is in memory
}

// Results of Up.
const (
	Joining   = "the node joins its tailnet by its auth key"
	Rejoining = "the node has to log in, and joins its tailnet again by a new auth key"
	renamed   = "the node's name was changed"
	noKey     = "the node has not joined and there is no auth key"
	notAgain  = "the node's state was lost, and its auth key was used before: it does not join again by itself"
)

// Up applies the configuration n and returns a line about what it changed, or "". A node that has
// joined keeps its node key, and gets its name. The auth key is used only if the node must log in
// and the key was not used before. A machine that has lost its state does not become a new node
// with a used key.
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

// Watch is called periodically while tailscaled runs. It records that the node has joined. again
// reports whether Up must be called: the node must log in, and key was not used before. settled
// reports whether the state is stable, so that the next call may be later.
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
		known := status.Self == nil || status.Self.ID == r.ID && status.Self.name() == r.Name
		if r.Joining == "" && r.Lost == "" && !r.Allowed && known {
			return false, true, nil
		}
		if !known {
			r.ID, r.Name = status.Self.ID, status.Self.name()
		}
		r.use(r.Joining)
		r.Joining, r.Lost, r.Kept, r.Copied, r.Allowed = "", "", "", false, false
		return false, true, r.store(state)
	case status.State == stateNeedsLogin && status.HaveNodeKey:
		return r.mayRejoin(key), false, nil
	}
	return false, false, nil
}

// Joined reports whether the node is on its tailnet.
func (c *Client) Joined(ctx context.Context) (bool, error) {
	status, err := c.status(ctx)
	return err == nil && status.State == stateRunning && status.HaveNodeKey, err
}

// LogOut permanently removes the node from its tailnet. It waits for the control server for half a
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

// join works like `tailscale up`, without waiting.
func (c *Client) join(ctx context.Context, prefs map[string]json.RawMessage, n Node) error {
	for name, value := range map[string]any{
		"ControlURL":    n.LoginServer,
		"Hostname":      n.Hostname,
		"AdvertiseTags": n.Tags,
		"WantRunning":   true,
		"LoggedOut":     false,
		// The machine serves its tailnet and does not use the tailnet's DNS, which would have to
		// write to the read-only root, or its routes.
		"CorpDNS":  false,
		"RouteAll": false,
	} {
		raw, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("join the tailnet: %w", err)
		}
		prefs[name] = raw
	}
	delete(prefs, "Config") // the node's keys, which must not be set
	if err := c.do(ctx, http.MethodPost, "start", map[string]any{"AuthKey": n.AuthKey, "UpdatePrefs": prefs}, nil); err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, "login-interactive", nil, nil)
}

// do sends one request and decodes the response into out, unless that is nil. Errors do not contain
// the request's body.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	answer, err := c.send(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return failed(method, path, err)
	}
	return nil
}

// failed returns the error of a request.
func failed(method, path string, err error) error {
	name, _, _ := strings.Cut(path, "?")
	return fmt.Errorf("ask tailscaled: %s %s: %w", method, name, err)
}

// send makes one request and returns the answer.
func (c *Client) send(ctx context.Context, method, path string, in any) ([]byte, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, failed(method, path, err)
		}
		body = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+host+"/localapi/v0/"+path, body)
	if err != nil {
		return nil, failed(method, path, err)
	}
	response, answer, err := c.roundTrip(ctx, request) //nolint:bodyclose // roundTrip has read and closed it
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(answer))
	}
	if err != nil {
		return nil, failed(method, path, err)
	}
	return answer, nil
}

// roundTrip sends a request on a new connection. An http.Client would add HTTP/2 and proxies, 0.6
// MB, to a program that must be small.
func (c *Client) roundTrip(ctx context.Context, request *http.Request) (*http.Response, []byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	// Pending I/O fails when ctx ends.
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
