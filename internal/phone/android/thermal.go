package android

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/health"
)

// Thermal reads the kernel's temperatures (Documentation/ABI/testing/sysfs-class-thermal), in the
// order of the zones' folders. Their meaning and unit depend on the vendor, so they are not
// interpreted. sys is the folder "/sys".
func Thermal(sys string) []health.Zone {
	dirs, _ := filepath.Glob(filepath.Join(sys, "class/thermal/thermal_zone*"))
	var zones []health.Zone
	for _, dir := range dirs {
		kind, err := os.ReadFile(filepath.Join(dir, "type"))
		temp, err2 := os.ReadFile(filepath.Join(dir, "temp")) // a suspended zone returns an error
		if err == nil && err2 == nil {
			zones = append(zones, health.Zone{Type: strings.TrimSpace(string(kind)), Temp: strings.TrimSpace(string(temp))})
		}
	}
	return zones
}
