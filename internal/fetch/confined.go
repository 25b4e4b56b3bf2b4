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

// ErrLocal is in the error of a request that a server on the network sends to this computer or its
// link, where other programs listen that trust all who can reach them (a cloud's metadata service
// among them).
var ErrLocal = errors.New("a server on the network sends sov to an address of this computer or its link, which is refused")

type originKey struct{}

// WithOrigin marks the requests of a context as asked for by the server at host, which the user has
// named: where it redirects, logs in or has things uploaded may be anywhere but this computer and
// its link, unless it is there itself. Redirects need no mark.
func WithOrigin(ctx context.Context, host string) context.Context {
	return context.WithValue(ctx, originKey{}, host)
}

// confined refuses requests to local addresses on behalf of another server.
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
	// A name is known to be local when it has been looked up. A proxy looks it up itself, and is
	// often local.
	if proxy, err := http.ProxyFromEnvironment(req); proxy == nil && err == nil {
		req = req.WithContext(context.WithValue(req.Context(), refuseLocalKey{}, origin))
	}
	return t.RoundTripper.RoundTrip(req)
}

// originOf is the host that the user has named; "" for a request that no other has caused.
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

// refuseLocal is a dialer's last look at an address, after names have been looked up.
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
