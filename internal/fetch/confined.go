package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
)

// ErrLocal is wrapped by the error of a request that a remote server directs to this computer or
// its link. Programs that listen there, such as a cloud's metadata service, often trust every
// client.
var ErrLocal = errors.New("a server on the network sends sov to an address of this computer or its link, which is refused")

type originKey struct{}

// WithOrigin marks the requests of a context as caused by the server at host, which the user has
// named. If the server redirects, requests a login or names an upload location, that address must
// not be on this computer or its link, unless the server itself is. Redirects need no mark.
func WithOrigin(ctx context.Context, host string) context.Context {
	return context.WithValue(ctx, originKey{}, host)
}

// confined rejects requests to local addresses that another server has caused.
type confined struct{ http.RoundTripper }

func (t confined) RoundTrip(req *http.Request) (*http.Response, error) {
	origin := originOf(req)
	if origin == "" || IsLoopback(origin) || strings.EqualFold(hostname(origin), req.URL.Hostname()) {
		return t.RoundTripper.RoundTrip(req)
	}
	host := strings.ToLower(strings.TrimSuffix(req.URL.Hostname(), "."))
	if addr, err := netip.ParseAddr(host); err == nil && isLocal(addr) || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil, fmt.Errorf("%s: %s: %w", origin, req.URL.Host, ErrLocal)
	}
	// A name can be checked only after it was resolved. A proxy resolves it itself, and is often
	// local.
	if proxy, err := http.ProxyFromEnvironment(req); proxy == nil && err == nil {
		req = req.WithContext(context.WithValue(req.Context(), refuseLocalKey{}, origin))
	}
	return t.RoundTripper.RoundTrip(req)
}

// originOf returns the host that the user has named, or "" if no server has caused the request.
func originOf(req *http.Request) string {
	if origin, ok := req.Context().Value(originKey{}).(string); ok {
		return origin
	}
	if req.Response == nil {
		return ""
	}
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req.URL.Host
}

func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

func isLocal(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
}

type refuseLocalKey struct{}

// refuseLocal is a dialer's check of an address after names were resolved.
func refuseLocal(ctx context.Context, _, address string, _ syscall.RawConn) error {
	origin, ok := ctx.Value(refuseLocalKey{}).(string)
	if !ok {
		return nil
	}
	if addr, err := netip.ParseAddrPort(address); err == nil && isLocal(addr.Addr()) {
		return fmt.Errorf("%s: %s: %w", origin, address, ErrLocal)
	}
	return nil
}
