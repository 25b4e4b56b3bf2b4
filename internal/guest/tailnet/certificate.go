package tailnet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// CertificateName implements certificate.Issuer. It returns the node's full name if the tailnet has
// certificates.
func (c *Client) CertificateName(ctx context.Context) (string, error) {
	status, err := c.status(ctx)
	switch {
	case err != nil:
		return "", err
	case status.State != stateRunning || status.Self == nil || status.Self.DNSName == "":
		return "", fmt.Errorf("the node is not on its tailnet (tailscaled is %s)", status.State)
	}
	name := status.Self.fullName()
	if !slices.Contains(status.CertDomains, name) {
		return "", errors.New("the tailnet has no certificates: enable HTTPS certificates, with MagicDNS, under DNS in the tailnet's admin console")
	}
	return name, nil
}

// Certificate implements certificate.Issuer. tailscaled orders a missing certificate from Let's
// Encrypt and renews it in the background (Tailscale's feature/acme).
func (c *Client) Certificate(ctx context.Context, name string) ([]byte, error) {
	return c.send(ctx, http.MethodGet, "cert/"+url.PathEscape(name)+"?type=pair", nil)
}
