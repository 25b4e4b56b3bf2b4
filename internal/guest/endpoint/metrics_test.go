//go:build linux

package endpoint

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/health"
)

// TestMetricsAreReadByPrometheus: Prometheus' parser reads the exposition, whatever its strings
// contain.
func TestMetricsAreReadByPrometheus(t *testing.T) {
	for name, status := range map[string]guestapi.Status{
		"nothing yet": {},
		"everything": {
			Image: "sql", Version: "1 \"quoted\" \\ and\nbroken", Ready: true, Uptime: 12.5, Problems: []string{"x"},
			Data:     guestapi.Data{Size: 8 << 40, Free: 1, Warning: "full"},
			Volumes:  []guestapi.Volume{{Name: "my-media", Data: guestapi.Data{Size: 5}}, {Name: "cold", Data: guestapi.Data{Warning: "full"}}},
			Services: []guestapi.Service{{Name: "a", State: "ready", Restarts: 3}, {Name: "b", State: "backoff", Failures: 2}},
			Clock:    &guestapi.Clock{Source: "sntp", Offset: -1e-6, LastSync: time.Unix(1_800_000_000, 5e8)},
			Tailnet:  &guestapi.Tailnet{State: "Running", Online: true},
			Postgres: &guestapi.Postgres{Ready: true, Connections: 7},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := &exposition{}
			m := health.New("sql")
			m.AddGuest(&status)
			e.machine(m)
			parser := expfmt.NewTextParser(model.LegacyValidation)
			families, err := parser.TextToMetricFamilies(strings.NewReader(e.text.String()))
			if err != nil {
				t.Fatalf("%v\n%s", err, e.text.String())
			}
			if got := families["sov_info"].GetMetric()[0].GetLabel()[1].GetValue(); got != status.Version {
				t.Errorf("the version is read as %q, want %q", got, status.Version)
			}
			if name == "nothing yet" {
				return
			}
			for family, want := range map[string]float64{
				"sov_ready": 1, "sov_uptime_seconds": 12.5, "sov_problems": 1, "sov_data_low": 1, "sov_clock_kept": 1, "sov_clock_offset_seconds": -1e-6,
				"sov_clock_compared_timestamp_seconds": 1_800_000_000.5, "sov_tailnet_online": 1, "sov_postgres_connections": 7,
			} {
				if got := families[family].GetMetric()[0].GetGauge().GetValue(); got != want {
					t.Errorf("%s is %v, want %v", family, got, want)
				}
			}
			if got := families["sov_volume_bytes"].GetMetric(); len(got) != 4 || got[0].GetLabel()[1].GetValue() != "my-media" || got[0].GetGauge().GetValue() != 5 {
				t.Errorf("volumes: %v", got)
			}
			if got := families["sov_volume_low"].GetMetric(); len(got) != 2 || got[1].GetGauge().GetValue() != 1 {
				t.Errorf("low volumes: %v", got)
			}
			if got := families["sov_service_restarts_total"].GetMetric(); len(got) != 2 || got[0].GetCounter().GetValue() != 3 {
				t.Errorf("restarts: %v", got)
			}
		})
	}
}
