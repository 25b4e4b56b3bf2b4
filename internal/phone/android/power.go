package android

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/health"
)

// Power reads the state of the phone's battery from sysfs (the kernel's documentation,
// ABI/testing/sysfs-class-power). sys is the folder "/sys". It returns nil if the phone does not
// show a battery.
func Power(sys string) *health.Power {
	supplies, _ := filepath.Glob(filepath.Join(sys, "class/power_supply/*"))
	for _, dir := range supplies {
		read := func(name string) string {
			text, _ := os.ReadFile(filepath.Join(dir, name))
			return strings.TrimSpace(string(text))
		}
		if read("type") != "Battery" || read("scope") == "Device" { // the battery of a mouse or a pen
			continue
		}
		percent, err := strconv.Atoi(read("capacity"))
		if err != nil || percent < 0 || percent > 100 {
			continue
		}
		status := read("status")
		return &health.Power{Battery: percent, Charging: status == "Charging" || status == "Full"}
	}
	return nil
}
