package android

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/health"
)

// Thermal reads the temperatures that the kernel shows
// (Documentation/ABI/testing/sysfs-class-thermal), in the order of the zones' folders. What they
// mean, and in which unit, is the vendor's: nothing is made of them. sys is the folder "/sys".
func Thermal(sys string) []health.Zone {
	dirs, _ := filepath.Glob(filepath.Join(sys, "class/thermal/thermal_zone*"))
	var zones []health.Zone
	for _, dir := range dirs {
		kind, err := os.ReadFile(filepath.Join(dir, "type"))
		temp, err2 := os.ReadFile(filepath.Join(dir, "temp")) // a zone that sleeps answers with an error
		if err == nil && err2 == nil {
			zones = append(zones, health.Zone{Type: strings.TrimSpace(string(kind)), Temp: strings.TrimSpace(string(temp))})
		}
	}
	return zones
}
