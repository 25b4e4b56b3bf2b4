package phone

import (
	"os"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// differing returns how many bytes of now are in blocks of 4 KiB that old does not contain.
func differing(t *testing.T, old, now string) (n int64) {
	t.Helper()
	const block = 4096
	have := map[string]bool{}
	for i, path := range []string{old, now} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for len(text) > 0 {
			b := text[:min(block, len(text))]
			text = text[len(b):]
			if i == 0 {
				have[string(b)] = true
			} else if !have[string(b)] {
				n += int64(len(b))
			}
		}
	}
	return n
}

// TestPush starts with an empty rooted phone and pushes a machine up to SQL. Then it pushes the
// same again, one changed setting, and a version while a cable is unplugged and the adb server
// restarts.
func TestPush(t *testing.T) {
	t.Parallel()
	p := phonetest.NewPushed(t, androidtest.NewADBServer(t))
	first := sovtest.Artifact(t, "arm64")
	second := sovtest.ChangedSetting(t)
	if o := p.Sov("secrets", "set", "sql", "postgres"); o.Status != 0 {
		t.Fatal(o)
	}
	r := p.Push(first, "--start")
	t.Logf("first: %+v", r)
	if r.Slot != "a" || r.Unchanged {
		t.Errorf("the first push: %+v", r)
	}
	p.Ask("create table journey (stop text); insert into journey values ('version 1')")
	if o := p.Sov("test", "sql", "--device", p.ADB.Serial()); o.Status != 0 {
		t.Errorf("sov test: %v", o)
	}

	again := p.Push(first)
	t.Logf("again: %+v", again)
	if !again.Unchanged || again.Sent*100 > again.Size {
		t.Errorf("the same again sent %d bytes of %d", again.Sent, again.Size)
	}
	changed := differing(t, first+"/rootfs.img", second+"/rootfs.img") + differing(t, first+"/manifest.json", second+"/manifest.json")
	update := p.Push(second)
	t.Logf("one setting, %d bytes in changed blocks: %+v", changed, update)
	if update.Slot != "b" || update.Sent*2 > changed*3 {
		t.Errorf("one setting changed %d bytes and sent %d", changed, update.Sent)
	}
	if s := p.Status(); s.Slot != "a" || s.Phase != runnerapi.Ready {
		t.Errorf("while it runs on: %+v", s)
	}
	p.Do("restart", "sql")
	if got := p.Ask("show log_min_duration_statement; select stop from journey"); strings.Join(got, " ") != "250ms version 1" {
		t.Errorf("the new version: %q", got)
	}

	// Back to the first version, interrupted twice. Its files are in slot a, so nothing would be
	// sent: remove them first.
	before := p.Whole()
	if err := os.RemoveAll(p.File(p.VM.Slot("a"))); err != nil {
		t.Fatal(err)
	}
	third := artifacttest.WithKernel(t, first, artifacttest.Noise(6<<20, 1)) // content that the phone does not have
	p.ADB.CutAfter(2 << 20)
	if o := p.Sov("push", third, "--device", p.ADB.Serial()); o.Status != 1 || !strings.Contains(o.Stderr, "push again to resume") {
		t.Errorf("unplugged: %v", o)
	}
	p.Server.Connect(p.ADB)
	p.ADB.SlowDown(512 << 10) // for some seconds longer than the adb server takes to restart
	ended := make(chan sovtest.Outcome, 1)
	from := p.ADB.Passed()
	go func() { ended <- p.Sov("push", third, "--device", p.ADB.Serial()) }()
	p.Eventually("under way", func() bool { return p.ADB.Passed() > from+1<<20 })
	p.Server.Restart()
	if o := <-ended; o.Status != 1 || !strings.Contains(o.Stderr, "push again to resume") {
		t.Errorf("the adb server restarted: %v", o)
	}
	if p.Whole() != before {
		t.Error("an interrupted push changed what is current")
	}
	p.ADB.SlowDown(0)
	p.Server.Connect(p.ADB)
	if r := p.Push(third); r.Resumed == 0 {
		t.Errorf("nothing was left of the interrupted pushes: %+v", r)
	}
	if o := p.Sov("rollback", "sql", "--device", p.ADB.Serial()); o.Status != 0 || p.Whole() != before {
		t.Errorf("roll back: %v", o)
	}
	p.Do("down", "sql")
}
