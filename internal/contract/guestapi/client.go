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
	// requestTimeout bounds one request, of which a status is the slowest.
	requestTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes: far above any real status.
	maxAnswer = 4 << 20
)

// maxHeader bounds the header of an answer, and maxComplaint what an error quotes, in bytes.
const (
	maxHeader    = 64 << 10
	maxComplaint = 1 << 10
)

// stay keeps a guest from having the phone's root, which asks, ask another server, with the token.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// complaint is what an answer says that is not the one expected.
func complaint(body []byte) string {
	return strings.TrimSpace(string(body[:min(len(body), maxComplaint)]))
}

// A Client asks one guest, for as long as it runs.
type Client struct {
	base   string
	token  string
	http   *http.Client
	stream *http.Client // without a bound on an answer's time
}

// NewClient returns a client for the endpoint at address, which admits holders of token.
func NewClient(address netip.AddrPort, token string) *Client {
	return &Client{
		base:  "http://" + address.String(),
		token: token,
		// The guest is on this machine's own link: no proxy of the environment may see the token.
		http: &http.Client{Timeout: requestTimeout, CheckRedirect: stay, Transport: &http.Transport{
			Proxy: nil, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader, DisableCompression: true, DialContext: dial,
		}},
		stream: &http.Client{CheckRedirect: stay, Transport: &http.Transport{
			Proxy: nil, DisableKeepAlives: true, ResponseHeaderTimeout: requestTimeout, MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
			DialContext: dial,
		}},
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

// Metrics asks for the status in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return c.do(ctx, http.MethodGet, PathMetrics, http.StatusOK)
}

// A LogQuery says which part of the guest's log is wanted.
type LogQuery struct {
	Service string // empty: all of them
	Lines   int    // from the end
	Follow  bool   // and what comes, until the context is done
}

// Logs copies lines of the guest's log to w, each "TIME LEVEL SERVICE: TEXT". A log that is
// followed ends with ctx, which is no error.
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

// LookAtClock makes the guest compare its clock with the best source that answers, and correct it,
// now: for a host that knows that it slept, or that its own clock was set.
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
