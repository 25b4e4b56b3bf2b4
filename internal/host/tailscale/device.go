// Package tailscale removes nodes from a tailnet with Tailscale's API and the user's API access
// token, which never leaves this computer except to the API.
//
// The requests are "Get a device" and "Delete a device" of https://tailscale.com/api (as text in
// publicapi/device.md of github.com/tailscale/tailscale at 4c7d74ef). They name a device by its
// nodeId. The token is the user name of HTTP basic authentication, without a password. The names of
// fields are from there, except connectedToControl, which was added later.
package tailscale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// Address is the URL of Tailscale's API.
const Address = "https://api.tailscale.com"

// limit is the timeout of one request.
const limit = 30 * time.Second

// maxAnswer limits an answer, in bytes. A device has a few KiB.
const maxAnswer = 1 << 20

// An API is Tailscale's API, or a compatible one.
type API struct {
	Address string // without /api/v2
	Token   string
	Now     func() time.Time
	// Pause is the interval of checks whether a device has disconnected.
	Pause time.Duration
}

// New returns the API at an address, which defaults to Tailscale's.
func New(address, token string) *API {
	if address == "" {
		address = Address
	}
	return &API{Address: strings.TrimSuffix(address, "/"), Token: strings.TrimSpace(token), Now: time.Now, Pause: 2 * time.Second}
}

// A device is a node as the API describes it.
type device struct {
	LastSeen  string `json:"lastSeen"` // RFC 3339
	Connected *bool  `json:"connectedToControl"`
}

// recent is the time since lastSeen for which a device may still be connected.
const recent = 10 * time.Minute

func (d *device) online(now time.Time) bool {
	if d.Connected != nil {
		return *d.Connected
	}
	seen, err := time.Parse(time.RFC3339, d.LastSeen)
	return err != nil || now.Sub(seen) < recent // if unknown, it counts as online
}

// looks is the number of checks of a device that is still connected: its machine may just have been
// shut down.
const looks = 10

// An OnlineError says that a node is still connected although its machine was removed.
type OnlineError struct{ Node guestapi.TailnetNode }

func (e *OnlineError) Error() string {
	return fmt.Sprintf("the node %s (%s) is connected to its tailnet, so another machine may be that node, and it was not removed: "+
		"if that is wrong, remove it in the tailnet's admin console", e.Node.Name, e.Node.ID)
}

// Remove deletes the node of a removed machine, and reports whether it existed. If the node is
// connected, the error is an *OnlineError.
func (a *API) Remove(ctx context.Context, node guestapi.TailnetNode) (found bool, err error) {
	fail := func(err error) error {
		return fmt.Errorf("remove the node %s (%s) from its tailnet: %w", node.Name, node.ID, err)
	}
	for n := 1; ; n++ {
		var d device
		err := a.do(ctx, http.MethodGet, node.ID, &d)
		if errors.Is(err, errGone) {
			return false, nil
		}
		if err != nil {
			return false, fail(err)
		}
		if !d.online(a.Now()) {
			break
		}
		if n == looks || d.Connected == nil {
			return false, &OnlineError{node}
		}
		select {
		case <-time.After(a.Pause):
		case <-ctx.Done():
			return false, fail(ctx.Err())
		}
	}
	err = a.do(ctx, http.MethodDelete, node.ID, nil)
	if errors.Is(err, errGone) {
		return false, nil
	}
	if err != nil {
		return false, fail(err)
	}
	return true, nil
}

var errGone = errors.New("there is no such node")

// do sends a request about a device. Errors do not contain the token.
func (a *API) do(ctx context.Context, method, id string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, a.Address+"/api/v2/device/"+url.PathEscape(id), nil)
	if err != nil {
		return err
	}
	if host := request.URL.Hostname(); request.URL.Scheme != "https" && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("the API's address %s must begin with https://: the token would be sent unencrypted", a.Address)
	}
	request.SetBasicAuth(a.Token, "")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // a redirect would receive the token
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusOK {
		if into == nil {
			return nil
		}
		return json.Unmarshal(text, into)
	}
	var said struct{ Message string }
	if json.Unmarshal(text, &said) == nil && said.Message != "" {
		said.Message = fmt.Sprintf(" (%.200q)", strings.ReplaceAll(said.Message, a.Token, "the token"))
	}
	switch response.StatusCode {
	case http.StatusNotFound:
		return errGone
	case http.StatusUnauthorized:
		return fmt.Errorf("the API does not take the token%s: it lives for 90 days at most: make one under Keys in the admin console, and `sov secrets set NAME %s`", said.Message, recipe.SecretTailscaleAPI)
	case http.StatusForbidden:
		return fmt.Errorf("the token may not do that%s: its user has to be an admin, and a token of an OAuth client needs the scope devices:core", said.Message)
	}
	return fmt.Errorf("the API answers %s%s", response.Status, said.Message)
}
