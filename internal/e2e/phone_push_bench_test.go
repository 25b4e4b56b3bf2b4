package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/embedded"
	"github.com/sovereign-sql/sov/internal/phone"
	"github.com/sovereign-sql/sov/internal/push"
)

// BenchmarkPush measures, over the real adb to a simulated phone, a first push and an update of one setting beside `adb push`
// of all files, in turns: as fast as the loopback goes, where it is processors and disks that are measured, and over a link of
// 30 MB/s, which is what adb makes of USB 2. The phone's processors are this computer's; its time is what sov-runner took of
// them.
func BenchmarkPush(b *testing.B) {
	b.Run("loopback", func(b *testing.B) { benchmarkPush(b, 0) })
	b.Run("30MB-per-s", func(b *testing.B) { benchmarkPush(b, 30e6) })
}

func benchmarkPush(b *testing.B, rate int64) {
	first := artifact(b, "arm64")
	second, result := changedSetting()
	if result.status != 0 {
		b.Fatal(result)
	}
	one, two := openArtifact(b, first), openArtifact(b, second)
	p := newPushed(b, androidtest.NewADBServer(b))
	link := phone.ADB(p.server.Program(), p.adb.Serial())
	p.adb.SlowDown(rate)
	if _, err := push.EnsureRunner(b.Context(), link, func(arch string) ([]byte, error) { return embedded.Program("sov-runner", arch) }); err != nil {
		b.Fatal(err)
	}
	send := func(a *push.Artifact) *push.Result {
		b.Helper()
		r, err := push.Send(b.Context(), link, a, func(push.Progress) {})
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	var whole, initial, update time.Duration
	var firstPush, change *push.Result
	for b.Loop() {
		if err := os.RemoveAll(p.File(filepath.Dir(p.vm.Dir()))); err != nil {
			b.Fatal(err)
		}
		p.Shell("rm -rf /data/local/tmp/sql; mkdir -p -m 777 /data/local/tmp; sync")
		begun := time.Now()
		p.server.Run("-s", p.adb.Serial(), "push", first, "/data/local/tmp/sql")
		whole += time.Since(begun)
		begun = time.Now()
		firstPush = send(one)
		initial += time.Since(begun)
		begun = time.Now()
		change = send(two)
		update += time.Since(begun)
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(one.Size())/1e6/initial.Seconds()*n, "MB/s-first")
	b.ReportMetric(initial.Seconds()/whole.Seconds(), "first/adb-push")
	b.ReportMetric(update.Seconds()/whole.Seconds(), "update/adb-push")
	b.ReportMetric(firstPush.PhoneCPU, "cpu-s-first")
	b.ReportMetric(change.PhoneCPU, "cpu-s-update")
	b.ReportMetric(float64(firstPush.Sent)/1e6, "MB-sent-first")
	b.ReportMetric(float64(change.Sent)/1e3, "kB-sent-update")
}

func openArtifact(b *testing.B, dir string) *push.Artifact {
	b.Helper()
	a, err := push.Open(b.Context(), dir, func(int64, int64) {})
	if err != nil {
		b.Fatal(err)
	}
	return a
}
