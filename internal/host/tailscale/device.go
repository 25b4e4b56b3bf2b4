// Package tailscale removes nodes from a tailnet by Tailscale's API, with an API access token of
// the user's. Only this computer has the token.
//
// The requests are those of https://tailscale.com/api (Devices: "Get a device", "Delete a device";
// as text in publicapi/device.md of github.com/tailscale/tailscale at 4c7d74ef): a device is named
// by its nodeId, and the token is the user of HTTP's basic authentication, without a password. The
// names of fields are from there, but for connectedToControl, which came later.
package tailscale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// Address is where Tailscale's API is.
const Address = "https://api.tailscale.com"

// limit bounds one request.
const limit = 30 * time.Second

// maxAnswer bounds an answer, in bytes. One about a device has some KiB.
const maxAnswer = 1 << 20

// An API is Tailscale's, or one that speaks as it does.
type API struct {
	Address string // without /api/v2
	Token   string
	Now     func() time.Time
	// Pause is how long to wait between looks at a device that is about to go off.
	Pause time.Duration
}

// New returns the API at an address; empty: Tailscale's.
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

// recent is how long ago a device was seen that may still be connected.
const recent = 10 * time.Minute

func (d *device) online(now time.Time) bool {
	if d.Connected != nil {
		return *d.Connected
	}
	seen, err := time.Parse(time.RFC3339, d.LastSeen)
	return err != nil || now.Sub(seen) < recent // it does not say
}

// looks is how often a device is looked at that is still connected: the machine that was this node
// has just been shut down.
const looks = 10

// An OnlineError says that a node is connected although the machine that was the node is gone.
type OnlineError struct{ Node guestapi.TailnetNode }

func (e *OnlineError) Error() string {
	return fmt.Sprintf("the node %s (%s) is connected to its tailnet, so another machine may be that node, and it was not removed: "+
		"if that is wrong, remove it in the tailnet's administration", e.Node.Name, e.Node.ID)
}

// Remove deletes a node that no machine is any more, and reports whether it was there. A node that
// is connected is an *OnlineError.
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

// do makes a request about a device. The token is in no error.
func (a *API) do(ctx context.Context, method, id string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, a.Address+"/api/v2/device/"+url.PathEscape(id), nil)
	if err != nil {
		return err
	}
	request.SetBasicAuth(a.Token, "")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // which would get the token
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
