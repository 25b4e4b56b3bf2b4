package android

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/health"
)

func TestPower(t *testing.T) {
	battery := func(status string) map[string]string {
		return map[string]string{"type": "Battery\n", "capacity": "87\n", "status": status + "\n"}
	}
	for name, tt := range map[string]struct {
		supplies map[string]map[string]string
		want     *health.Power
	}{
		"no supply":        {nil, nil},
		"charges":          {map[string]map[string]string{"battery": battery("Charging"), "usb": {"type": "USB\n"}}, &health.Power{Battery: 87, Charging: true}},
		"is full":          {map[string]map[string]string{"battery": battery("Full")}, &health.Power{Battery: 87, Charging: true}},
		"discharges":       {map[string]map[string]string{"battery": battery("Discharging")}, &health.Power{Battery: 87}},
		"a pen's":          {map[string]map[string]string{"a": {"type": "Battery\n", "scope": "Device\n", "capacity": "1\n"}, "battery": battery("Full")}, &health.Power{Battery: 87, Charging: true}},
		"no number":        {map[string]map[string]string{"battery": {"type": "Battery\n", "capacity": "full\n"}}, nil},
		"beyond a percent": {map[string]map[string]string{"battery": {"type": "Battery\n", "capacity": "255\n"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			sys := t.TempDir()
			for supply, files := range tt.supplies {
				dir := filepath.Join(sys, "class/power_supply", supply)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				for file, text := range files {
					if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			if diff := cmp.Diff(tt.want, Power(sys)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
