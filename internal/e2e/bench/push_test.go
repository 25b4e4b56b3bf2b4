package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// BenchmarkPush measures a first push and an update of one setting to a simulated phone over the
// real adb, in turns with `adb push` of all files. It uses the loopback, which measures processors
// and disks, and a link of 30 MB/s, which is adb's speed over USB 2.
//
// The phone shares this computer's processors. Its time is counted the same way for all three: the
// time of this process, which runs only the phone's adbd, and of the processes that adbd has
// started. sov, adb and adb's server count as the computer's.
func BenchmarkPush(b *testing.B) {
	b.Run("loopback", func(b *testing.B) { benchmarkPush(b, 0) })
	b.Run("30MB-per-s", func(b *testing.B) { benchmarkPush(b, 30e6) })
}

func benchmarkPush(b *testing.B, rate int64) {
	first := sovtest.Artifact(b, "arm64")
	second := sovtest.ChangedSetting(b)
	p := phonetest.NewPushed(b, androidtest.NewADBServer(b))
	p.Push(first) // installs sov-runner
	p.ADB.SlowDown(rate)
	var whole, initial, update cost
	var firstPush, change push.Result
	for b.Loop() {
		if err := os.RemoveAll(p.File(filepath.Dir(p.VM.Dir()))); err != nil {
			b.Fatal(err)
		}
		p.Shell("rm -rf /data/local/tmp/sql; mkdir -p -m 777 /data/local/tmp; sync")
		whole.add(p, p.Server.Program(), "-s", p.ADB.Serial(), "push", first, "/data/local/tmp/sql")
		firstPush = initial.push(p, first)
		change = update.push(p, second)
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(firstPush.Size)/1e6/initial.time.Seconds()*n, "MB/s-first")
	b.ReportMetric(initial.time.Seconds()/whole.time.Seconds(), "first/adb-push")
	b.ReportMetric(update.time.Seconds()/whole.time.Seconds(), "update/adb-push")
	b.ReportMetric(whole.phone.Seconds()/n, "cpu-s-adb-push")
	b.ReportMetric(initial.phone.Seconds()/n, "cpu-s-first")
	b.ReportMetric(update.phone.Seconds()/n, "cpu-s-update")
	b.ReportMetric(float64(firstPush.Sent)/1e6, "MB-sent-first")
	b.ReportMetric(float64(change.Sent)/1e3, "kB-sent-update")
}

// A cost is the total time of several runs of a program.
type cost struct {
	time  time.Duration
	phone time.Duration // of the phone's processors
}

// push runs `sov push`.
func (c *cost) push(p *phonetest.Pushed, dir string) (r push.Result) {
	p.T.Helper()
	before := c.phone
	answer := c.add(p, sovtest.Program, "push", dir, "--json", "--device", p.ADB.Serial())
	if err := json.Unmarshal(answer, &r); err != nil {
		p.T.Fatal(err)
	}
	if spent := c.phone - before; spent.Seconds() < r.PhoneCPU {
		p.T.Fatalf("the phone took %v for the push, of which sov-runner says it took %v s: something was not counted", spent, r.PhoneCPU)
	}
	return r
}

// add runs a program of the computer and returns its output.
func (c *cost) add(p *phonetest.Pushed, name string, args ...string) []byte {
	p.T.Helper()
	var out, said bytes.Buffer
	command := exec.CommandContext(p.T.Context(), name, args...)
	command.Env = p.Environ()
	command.Stdout, command.Stderr = &out, &said
	before, begun := processors(p.T), time.Now()
	err := command.Run()
	c.time += time.Since(begun)
	if err != nil {
		p.T.Fatalf("%v: %v: %s", command, err, said.String())
	}
	c.phone += processors(p.T) - before - command.ProcessState.UserTime() - command.ProcessState.SystemTime()
	return out.Bytes()
}

// processors returns the processor time of this process and of its children that have ended.
func processors(t testing.TB) (total time.Duration) {
	t.Helper()
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var used unix.Rusage
		if err := unix.Getrusage(who, &used); err != nil {
			t.Fatal(err)
		}
		total += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return total
}
