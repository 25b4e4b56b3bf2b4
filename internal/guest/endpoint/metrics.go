//go:build linux

package endpoint

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/health"
)

// metricsType is that of Prometheus' text format, version 0.0.4 (its documentation, "Exposition
// formats").
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	e := &exposition{}
	status := s.config.Machine.Status(r.Context())
	m := health.New(status.Image)
	m.AddGuest(&status)
	e.machine(m)
	e.family("sov_log_lines_lost_total", "counter", "Log lines that were dropped: too many at once, or no space.")
	e.sample(float64(s.config.Journal.Lost()))
	e.family("sov_endpoint_strangers_total", "counter", "Requests without the token of this boot.")
	e.sample(float64(s.limiter.unauthenticated()))
	e.family("sov_init_descriptors", "gauge", "Open file descriptors of process 1.")
	e.sample(float64(ownDescriptors()))
	w.Header().Set("Content-Type", metricsType)
	_, _ = w.Write([]byte(e.text.String())) // an error is the client's going away
}

// An exposition is the text of the response.
type exposition struct {
	text strings.Builder
	name string // of the family that samples are added to
}

// family begins a metric.
func (e *exposition) family(name, kind, help string) {
	e.name = name
	fmt.Fprintf(&e.text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample adds a value; labels are pairs of a name and a value.
func (e *exposition) sample(value float64, labels ...string) {
	e.text.WriteString(e.name)
	for i := 0; i+1 < len(labels); i += 2 {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		e.text.WriteByte(separator)
		fmt.Fprintf(&e.text, `%s="%s"`, labels[i], labelEscape.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		e.text.WriteByte('}')
	}
	fmt.Fprintf(&e.text, " %g\n", value)
}

// labelEscape escapes the value of a label.
var labelEscape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (e *exposition) machine(m *health.Machine) {
	g := m.Guest
	e.family("sov_info", "gauge", "What runs: always 1.")
	e.sample(1, "image", g.Image, "version", g.Version, "kernel", g.Kernel)
	e.family("sov_ready", "gauge", "1 when every service is ready.")
	e.sample(truth(g.Ready))
	e.family("sov_uptime_seconds", "gauge", "Time since the kernel started.")
	e.sample(g.Uptime)
	e.family("sov_problems", "gauge", "Problems in the status.")
	e.sample(float64(len(g.Problems)))
	e.family("sov_orphans_reaped_total", "counter", "Processes reaped that no service had started itself.")
	e.sample(float64(g.Orphans))
	e.family("sov_memory_bytes", "gauge", "The machine's memory.")
	e.sample(float64(g.Memory.Total), "kind", "total")
	e.sample(float64(g.Memory.Available), "kind", "available")
	data, volumes := m.Disks[:1], m.Disks[1:]
	e.disks("sov_data", data)
	e.disks("sov_volume", volumes)
	e.services(m.Services)
	e.clock(g.Clock)
	if d := m.Database; d != nil {
		e.family("sov_postgres_ready", "gauge", "1 when PostgreSQL answers.")
		e.sample(truth(d.Ready))
		e.family("sov_postgres_connections", "gauge", "Connections of clients.")
		e.sample(float64(d.Connections))
	}
	if t := m.Tailnet; t != nil {
		e.family("sov_tailnet_online", "gauge", "1 when the node's control server was heard of lately.")
		e.sample(truth(t.Online), "state", t.State)
	}
}

// disks writes the metrics of the data disk, or of volumes with their names as labels.
func (e *exposition) disks(family string, disks []health.Disk) {
	if len(disks) == 0 {
		return
	}
	of := func(d health.Disk, labels ...string) []string {
		if d.Name != health.DataDisk {
			labels = append(labels, "volume", d.Name)
		}
		return labels
	}
	e.family(family+"_bytes", "gauge", "The file system of the disk.")
	for _, d := range disks {
		e.sample(float64(d.Size), of(d, "kind", "size")...)
		e.sample(float64(d.Free), of(d, "kind", "free")...)
	}
	e.family(family+"_low", "gauge", "1 when the disk is nearly full.")
	for _, d := range disks {
		e.sample(truth(d.Warning != ""), of(d)...)
	}
}

func (e *exposition) services(services []guestapi.Service) {
	e.family("sov_service_ready", "gauge", "1 if a service is ready, has run once, is scheduled or is off.")
	for _, s := range services {
		e.sample(truth(s.Ready()), "service", s.Name, "state", s.State)
	}
	e.family("sov_service_restarts_total", "counter", "Starts of a service after the first.")
	for _, s := range services {
		e.sample(float64(s.Restarts), "service", s.Name)
	}
	e.family("sov_service_failures", "gauge", "Unexpected ends in a row.")
	for _, s := range services {
		e.sample(float64(s.Failures), "service", s.Name)
	}
}

func (e *exposition) clock(c *guestapi.Clock) {
	if c == nil {
		return
	}
	e.family("sov_clock_kept", "gauge", "1 when a source keeps the clock and nothing is wrong with it.")
	e.sample(truth(c.Fault == "" && !c.LastSync.IsZero()), "source", c.Source)
	if c.LastSync.IsZero() {
		return
	}
	e.family("sov_clock_offset_seconds", "gauge", "How far the clock was behind when it was last compared.")
	e.sample(c.Offset)
	e.family("sov_clock_compared_timestamp_seconds", "gauge", "When that was.")
	e.sample(float64(c.LastSync.UnixMilli()) / float64(time.Second/time.Millisecond))
}

// ownDescriptors returns the number of this process's open file descriptors, without the one for
// counting.
func ownDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries) - 1
}
