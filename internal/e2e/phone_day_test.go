package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/artifacttest"
	"github.com/sovereign-sql/sov/internal/manifest"
	"github.com/sovereign-sql/sov/internal/runnerapi"
)

// changedSetting is the sql recipe's artifact with one setting changed, and brokenSetting that with one with which no server
// starts.
var (
	changedSetting = sync.OnceValues(func() (string, outcome) { return buildWith("log_min_duration_statement: 250") })
	brokenSetting  = sync.OnceValues(func() (string, outcome) { return buildWith("shared_preload_libraries: not_there") })
)

// buildWith builds the sql recipe with a setting of PostgreSQL's.
func buildWith(setting string) (string, outcome) {
	text, err := os.ReadFile("../../assets/sql.yaml")
	if err != nil {
		return "", outcome{status: 1, stderr: err.Error()}
	}
	changed := strings.Replace(string(text), "settings: {}", "settings: {"+setting+"}", 1)
	if changed == string(text) {
		return "", outcome{status: 1, stderr: "sql.yaml has no empty settings"}
	}
	name, _, _ := strings.Cut(setting, ":")
	recipe := filepath.Join(shared, name+".yaml")
	if err := os.WriteFile(recipe, []byte(changed), 0o644); err != nil {
		return "", outcome{status: 1, stderr: err.Error()}
	}
	return build(recipe, "arm64", filepath.Join(shared, name))
}

// differing is how many bytes of a file are in blocks of 4 KiB that another has nowhere.
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

// From a rooted phone on which nothing is to SQL, and a day with it: the same again, one setting, a cable that is pulled, an
// adb server that is restarted.
func TestPush(t *testing.T) {
	t.Parallel()
	p := newPushed(t, androidtest.NewADBServer(t))
	first := artifact(t, "arm64")
	second, result := changedSetting()
	if result.status != 0 {
		t.Fatal(result)
	}
	if o := p.sov("secrets", "set", "sql", "postgres"); o.status != 0 {
		t.Fatal(o)
	}
	r := p.push(first, "--start")
	t.Logf("first: %+v", r)
	if r.Slot != "a" || r.Unchanged {
		t.Errorf("the first push: %+v", r)
	}
	p.ask("create table journey (stop text); insert into journey values ('version 1')")
	if o := p.sov("test", "sql", "--device", p.adb.Serial()); o.status != 0 {
		t.Errorf("sov test: %v", o)
	}

	again := p.push(first)
	t.Logf("again: %+v", again)
	if !again.Unchanged || again.Sent*100 > again.Size {
		t.Errorf("the same again sent %d bytes of %d", again.Sent, again.Size)
	}
	changed := differing(t, first+"/rootfs.img", second+"/rootfs.img") + differing(t, first+"/manifest.json", second+"/manifest.json")
	update := p.push(second)
	t.Logf("one setting, %d bytes in changed blocks: %+v", changed, update)
	if update.Slot != "b" || update.Sent*2 > changed*3 {
		t.Errorf("one setting changed %d bytes and sent %d", changed, update.Sent)
	}
	if s := p.status(); s.Slot != "a" || s.Phase != runnerapi.Ready {
		t.Errorf("while it runs on: %+v", s)
	}
	p.do("restart", "sql")
	if got := p.ask("show log_min_duration_statement; select stop from journey"); strings.Join(got, " ") != "250ms version 1" {
		t.Errorf("the new version: %q", got)
	}

	// Back to the first, twice interrupted. Its files are in slot a, so that nothing would travel: they go first.
	before := p.whole()
	if err := os.RemoveAll(p.File(p.vm.Slot("a"))); err != nil {
		t.Fatal(err)
	}
	kernel := bytes.Clone(artifacttest.Noise(6<<20, 1)) // content that the phone has nowhere
	third := t.TempDir()
	if err := os.CopyFS(third, os.DirFS(first)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(third, "kernel"), kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Load(third)
	if err != nil {
		t.Fatal(err)
	}
	artifacttest.Seal(t, third, m)
	p.adb.CutAfter(2 << 20)
	if o := p.sov("push", third, "--device", p.adb.Serial()); o.status != 1 || !strings.Contains(o.stderr, "push again to go on") {
		t.Errorf("unplugged: %v", o)
	}
	p.server.Connect(p.adb)
	p.adb.SlowDown(512 << 10) // for seconds more than the adb server takes to restart
	ended := make(chan outcome, 1)
	from := p.adb.Passed()
	go func() { ended <- p.sov("push", third, "--device", p.adb.Serial()) }()
	p.eventually("under way", func() bool { return p.adb.Passed() > from+1<<20 })
	p.server.Restart()
	if o := <-ended; o.status != 1 || !strings.Contains(o.stderr, "push again to go on") {
		t.Errorf("the adb server restarted: %v", o)
	}
	if p.whole() != before {
		t.Error("an interrupted push changed what is current")
	}
	p.adb.SlowDown(0)
	p.server.Connect(p.adb)
	if r := p.push(third); r.Resumed == 0 {
		t.Errorf("nothing was left of the interrupted pushes: %+v", r)
	}
	if o := p.sov("rollback", "sql", "--device", p.adb.Serial()); o.status != 0 || p.whole() != before {
		t.Errorf("roll back: %v", o)
	}
	p.do("down", "sql")
}
