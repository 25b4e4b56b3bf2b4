package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
)

// script starts the machine without sov-runner. It makes the same network and starts the same
// crosvm, without a ledger, a check of the current state and a daemon that monitors the machine.
const script = `
	ip tuntap add vm_sql mode tap; ip addr add 192.168.100.1/24 dev vm_sql; ip link set vm_sql up
	echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/vm_sql/rp_filter
	ip rule add pref 1 lookup main; ip route add default via 192.168.1.1 dev wlan0 onlink
	$IPTABLES -w -I FORWARD -i vm_sql -j ACCEPT; $IPTABLES -w -I FORWARD -o vm_sql -j ACCEPT
	$IPTABLES -w -t nat -I POSTROUTING -s 192.168.100.0/24 -o wlan0 -j MASQUERADE
	/apex/com.android.virt/bin/crosvm run --help >/dev/null
`

// BenchmarkUp measures the time from the start of `sov-runner up` to the start of crosvm, and
// compares it with a script that makes the same network and runs crosvm. It also measures the
// memory of the machine's daemon.
func BenchmarkUp(b *testing.B) {
	b.Run("sov-runner", func(b *testing.B) {
		h := phonetest.New(b, androidtest.Options{}, `, "shutdown_timeout": 1`)
		h.Do("up", "sql")
		memory := h.Resident(h.Status().Daemon)
		h.Do("down", "sql")
		var total time.Duration
		for b.Loop() {
			begin := time.Now()
			h.Do("up", "sql", "--no-wait")
			var s *health.Machine
			h.Eventually("started", func() bool { s = h.Status(); return s.StartedAt.After(begin) })
			total += s.StartedAt.Sub(begin)
			b.StopTimer()
			h.Shell(fmt.Sprintf("kill -9 %d", s.Crosvm))
			h.Do("down", "sql")
			b.StartTimer()
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms-to-crosvm")
		b.ReportMetric(float64(memory)/(1<<20), "MiB-daemon")
	})
	b.Run("script", func(b *testing.B) {
		h := phonetest.New(b, androidtest.Options{}, "")
		var total time.Duration
		for b.Loop() {
			begin := time.Now()
			h.Shell(script)
			total += time.Since(begin)
			b.StopTimer()
			h.Shell("ip link del vm_sql; ip rule del pref 1; ip route del default; $IPTABLES -D FORWARD 1; $IPTABLES -D FORWARD 1; $IPTABLES -t nat -D POSTROUTING 1")
			b.StartTimer()
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms-to-crosvm")
	})
}
