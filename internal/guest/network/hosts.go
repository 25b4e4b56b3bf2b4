//go:build linux

package network

import (
	"fmt"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
	"github.com/sovereign-sql/sov/internal/durable"
)

// hostsFile is the target of the image's link /etc/hosts. libc reads it at each lookup, so changes
// apply at once.
const hostsFile = "/run/hosts"

// WriteHosts replaces the names in hostsFile: the guest's own, and those of hosts.
func WriteHosts(hostname string, hosts []configdisk.Host) error {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost\n", hostname)
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.Address, h.Name)
	}
	if err := durable.WriteFile(hostsFile, []byte(b.String()), 0o644, durable.NoSync()); err != nil {
		return fmt.Errorf("write the names of hosts: %w", err)
	}
	return nil
}
