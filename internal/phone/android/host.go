package android

import (
	"context"

	"github.com/sovereign-sql/sov/internal/contract/configdisk"
)

// Host tells this phone from others, for configdisk.Config: by its serial number, which only root
// may read, or on another Linux by its machine-id. It is empty where there is neither.
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
