package guestapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// requestTimeout is the timeout of a request; a status is the slowest.
	requestTimeout = 10 * time.Second
	// maxAnswer is the largest response, in bytes, far above any real status.
	maxAnswer = 4 << 20
)

// maxHeader is the largest header of a response, maxComplaint how much of a response an error
// quotes, in bytes.
const (
	maxHeader    = 64 << 10
	maxComplaint = 1 << 10
)

// Pause returns how long a client that polls the status waits after a request which took the given
// time: at least least, and so long that the guest spends at most a tenth of its time on answers. A
// request takes an emulated guest up to 100 ms, and a start would take twice as long if there was
// always a request. At most two seconds are added, so that a change is noticed soon.
func Pause(least, took time.Duration) time.Duration {
	return max(least, min(9*took, 2*time.Second))
}

// stay refuses redirects: a guest must not make the client, which is root on the phone, send the
// token to another server.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// complaint returns the text of an error response.
func complaint(body []byte) string {
	return strings.TrimSpace(string(body[:min(len(body), maxComplaint)]))
}

// A Client is a client of one guest's endpoint, for one boot.
type Client struct {
	base   string
	token  string
	http   *http.Client
	stream *http.Client // without a timeout
}

// NewClient returns a client for the endpoint at address with the access token.
func NewClient(address netip.AddrPort, token string) *Client {
	return &Client{
		base:  "http://" + address.String(),
		token: token,
		// The guest is on this host's own link: proxies of the environment must not see the token.
		http: &http.Client{Timeout: requestTimeout, CheckRedirect: stay, Transport: &http.Transport{
			Proxy: nil, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader, DisableCompression: true, DialContext: dial,
		}},
		stream: &http.Client{CheckRedirect: stay, Transport: &http.Transport{
			Proxy: nil, DisableKeepAlives: true, ResponseHeaderTimeout: requestTimeout, MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
			DialContext: dial,
		}},
	}
}

// Status requests the guest's status.
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

// Metrics requests the status in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return c.do(ctx, http.MethodGet, PathMetrics, http.StatusOK)
}

// A LogQuery selects a part of the guest's log.
type LogQuery struct {
	Service string // empty: all of them
	Lines   int    // from the end
	Follow  bool   // also new lines, until the context is done
}

// Logs copies lines of the guest's log to w, each "TIME LEVEL SERVICE: TEXT". With Follow it ends
// with ctx, without an error.
func (c *Client) Logs(ctx context.Context, q LogQuery, w io.Writer) error {
	query := url.Values{QueryLines: {strconv.Itoa(q.Lines)}, QueryFollow: {strconv.FormatBool(q.Follow)}}
	if q.Service != "" {
		query.Set(QueryService, q.Service)
	}
	response, err := c.send(ctx, c.stream, http.MethodGet, PathLogs+"?"+query.Encode())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		return fmt.Errorf("ask the guest for its log: %s: %s", response.Status, complaint(body))
	}
	_, err = io.Copy(w, response.Body)
	if err != nil && !(q.Follow && ctx.Err() != nil) {
		return fmt.Errorf("read the guest's log: %w", err)
	}
	return nil
}

// LookAtClock makes the guest compare its clock with the best source now and correct it, for
// example after a suspend or a change of the host's clock.
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

// Shutdown requests a clean shutdown and returns when the guest has accepted the request, before
// the shutdown is complete.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, PathShutdown, http.StatusAccepted)
	return err
}

func (c *Client) do(ctx context.Context, method, path string, want int) ([]byte, error) {
	response, err := c.send(ctx, c.http, method, path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask the guest: %s %s: %w", method, path, err)
	}
	if response.StatusCode != want {
		return nil, fmt.Errorf("ask the guest: %s %s: %s: %s", method, path, response.Status, complaint(body))
	}
	return body, nil
}

// send sends a request with the token.
func (c *Client) send(ctx context.Context, client *http.Client, method, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the guest: %w", err)
	}
	return response, nil
}
