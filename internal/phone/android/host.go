package android

import (
	"context"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

// Host returns an ID of this phone for configdisk.Config, derived from its serial number, which
// only root can read, or on other systems from the machine-id. It is empty if neither exists.
func (p Phone) Host(ctx context.Context) string {
	if !p.Is() {
		return configdisk.ThisHost()
	}
	for _, property := range []string{"ro.serialno", "ro.boot.serialno"} {
		if serial, err := p.run(ctx, "getprop", property); err == nil && serial != "" {
			return configdisk.HostOf(serial)
		}
	}
	return ""
}
