package guestapi

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

// queryHost is the key of the query for PathHosts: NAME=ADDRESS, once for each name.
const queryHost = "host"

// SetHosts replaces the guest's names from the config disk or an earlier call.
func (c *Client) SetHosts(ctx context.Context, hosts []configdisk.Host) error {
	query := url.Values{}
	for _, h := range hosts {
		query.Add(queryHost, h.Name+"="+h.Address.String())
	}
	_, err := c.do(ctx, http.MethodPost, PathHosts+"?"+query.Encode(), http.StatusNoContent)
	return err
}

// ReadHosts reads the query of PathHosts.
func ReadHosts(query url.Values) ([]configdisk.Host, error) {
	var hosts []configdisk.Host
	for _, text := range query[queryHost] {
		name, address, _ := strings.Cut(text, "=")
		a, err := netip.ParseAddr(address)
		if err != nil {
			return nil, fmt.Errorf("the address of a host cannot be read: %w", err)
		}
		hosts = append(hosts, configdisk.Host{Name: name, Address: a})
	}
	return hosts, configdisk.CheckHosts(hosts)
}
