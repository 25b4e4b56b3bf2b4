package guestapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	// requestTimeout bounds one request; the guest answers from memory.
	requestTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes: far above any real status.
	maxAnswer = 4 << 20
)

// A Client asks one guest, for as long as it runs.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient returns a client for the endpoint at address, which admits holders of token.
func NewClient(address netip.AddrPort, token string) *Client {
	return &Client{
		base:  "http://" + address.String(),
		token: token,
		// The guest is on this machine's own link: no proxy of the environment may see the token.
		http: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}},
	}
}

// Status asks how the guest is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	body, err := c.do(ctx, http.MethodGet, PathStatus, http.StatusOK)
	if err != nil {
		return nil, err
	}
	status := new(Status)
	if err := json.Unmarshal(body, status); err != nil {
		return nil, fmt.Errorf("guest's status: %w", err)
	}
	return status, nil
}

// LookAtClock makes the guest compare its clock with the best source that answers, and correct it, now: for a host that
// knows that it slept, or that its own clock was set.
func (c *Client) LookAtClock(ctx context.Context) (*Clock, error) {
	body, err := c.do(ctx, http.MethodPost, PathClock, http.StatusOK)
	if err != nil {
		return nil, err
	}
	clock := new(Clock)
	if err := json.Unmarshal(body, clock); err != nil {
		return nil, fmt.Errorf("guest's clock: %w", err)
	}
	return clock, nil
}

// Shutdown asks for an orderly end and returns when the guest has agreed to it, before it is done.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, PathShutdown, http.StatusAccepted)
	return err
}

func (c *Client) do(ctx context.Context, method, path string, want int) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the guest: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the guest: %s %s: %w", method, path, err)
	}
	if response.StatusCode != want {
		return nil, fmt.Errorf("ask the guest: %s %s: %s: %s", method, path, response.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
