package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/androidtest"
	"github.com/sovereign-sql/sov/internal/artifacttest"
	"github.com/sovereign-sql/sov/internal/layout"
	"github.com/sovereign-sql/sov/internal/manifest"
	"github.com/sovereign-sql/sov/internal/phone"
	"github.com/sovereign-sql/sov/internal/push"
	"github.com/sovereign-sql/sov/internal/slots"
)

// A pushed phone is one that the tests push to by the real adb, from a computer with a user of its own.
type pushed struct {
	*handset
	adb    *androidtest.ADB
	server *androidtest.ADBServer
	config string // the user's folder for sov's configuration
}

// newPushed returns a phone on which nothing is installed yet.
func newPushed(t testing.TB, server *androidtest.ADBServer) *pushed {
	t.Helper()
	h := &handset{Phone: androidtest.New(t, androidtest.Options{}), t: t}
	var err error
	if h.vm, err = layout.Default.VM("sql"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.File(filepath.Dir(layout.Default.Runner()))); err != nil {
		t.Fatal(err)
	}
	h.put(layout.Default.Settings(), fmt.Sprintf(handsetSettings, ""), 0o644)
	p := &pushed{handset: h, adb: h.ServeADB(androidtest.ADBOptions{}), server: server, config: t.TempDir()}
	server.Connect(p.adb)
	return p
}

// sov runs the program for this phone.
func (p *pushed) sov(args ...string) outcome {
	p.t.Helper()
	return sov(p.t, func(c *exec.Cmd) {
		c.Env = p.environ()
		if args[0] == "secrets" {
			c.Stdin = strings.NewReader(phonePassword)
		}
	}, args...)
}

// environ is the environment of the phone's user, who has the test's adb.
func (p *pushed) environ() []string {
	return append(os.Environ(), "PATH="+filepath.Dir(p.server.Program())+":"+os.Getenv("PATH"), "SOV_CONFIG_DIR="+p.config)
}

// push pushes an artifact with flags and returns what it says.
func (p *pushed) push(dir string, flags ...string) push.Result {
	p.t.Helper()
	o := p.sov(append([]string{"push", dir, "--json", "--device", p.adb.Serial()}, flags...)...)
	if o.status != 0 {
		p.t.Fatalf("sov push: %v\n%s", o, p.logs())
	}
	var r push.Result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		p.t.Fatalf("%v: %v", err, o)
	}
	return r
}

// whole is the digest of the version that is current on the phone, every byte of which was compared with its manifest.
func (p *pushed) whole() string {
	p.t.Helper()
	target, err := os.Readlink(p.File(p.vm.Current()))
	if err != nil {
		p.t.Fatal(err)
	}
	dir := filepath.Join(p.File(p.vm.Dir()), target)
	a, err := slots.Load(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, want := range a.Files {
		content, err := os.ReadFile(filepath.Join(dir, want.Name))
		if err != nil || manifest.Describe(want.Name, content) != want {
			p.t.Fatalf("%s: %s is not whole: %v", target, want.Name, err)
		}
	}
	return a.Digest
}

// cuts of the cable at random points.
const pushCuts = 200

// Wherever the cable is cut, the phone has the old version or the new one, whole, and the next push ends the work.
func TestPushCut(t *testing.T) {
	t.Parallel()
	p := newPushed(t, androidtest.NewADBServer(t))
	link := phone.ADB(p.server.Program(), p.adb.Serial())
	random := rand.New(rand.NewPCG(5, 5))
	version := func(i int) *push.Artifact {
		t.Helper()
		rootfs := append(artifacttest.Noise(200_000, uint64(i)), artifacttest.Noise(500_000, uint64(i/2))...)
		a, err := push.Open(t.Context(), artifacttest.Make(t, "sql", fmt.Sprint(i), artifacttest.Noise(60_000, uint64(i)), rootfs), func(int64, int64) {})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	send := func(a *push.Artifact) (*push.Result, error) {
		return push.Send(t.Context(), link, a, func(push.Progress) {})
	}
	o := p.sov("push", filepath.Join(artifacttest.Make(t, "sql", "0", []byte("kernel"), []byte("rootfs"))), "--device", p.adb.Serial())
	if o.status != 0 {
		t.Fatal(o)
	}
	current, whole, resumed := p.whole(), 0, 0
	for i := range pushCuts {
		next := version(i)
		p.adb.CutAfter(random.Int64N(800_000))
		_, err := send(next)
		now := p.whole()
		if now != current && now != next.Digest || err == nil && now != next.Digest {
			t.Fatalf("cut %d: %v: current is neither the old nor the new version", i, err)
		}
		p.server.Connect(p.adb)
		if random.IntN(2) == 0 {
			r, err := send(next)
			if err != nil {
				t.Fatalf("the push after cut %d: %v", i, err)
			}
			if r.Resumed > 0 {
				resumed++
			}
			if now = p.whole(); now != next.Digest {
				t.Fatalf("the push after cut %d: another version is current", i)
			}
		}
		if now != current {
			whole++
		}
		current = now
	}
	t.Logf("%d of %d versions came through, %d pushes went on from what had come", whole, pushCuts, resumed)
	if _, err := os.Stat(p.File(p.vm.Data())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a push made a data disk: %v", err)
	}
}

// Two phones at once, and one that is full and one that cannot run it: each is told its own.
func TestPushSeveral(t *testing.T) {
	t.Parallel()
	server := androidtest.NewADBServer(t)
	one, two := newPushed(t, server), newPushed(t, server)
	dir := artifacttest.Make(t, "sql", "1", artifacttest.Noise(200_000, 1), artifacttest.Noise(3<<20, 2))
	both := []string{"push", dir, "--json", "--device", one.adb.Serial(), "--device", two.adb.Serial()}
	o := one.sov(both...)
	var answers []struct {
		Device string
		Result push.Result
		Error  string
	}
	if err := json.Unmarshal([]byte(o.stdout), &answers); err != nil || o.status != 0 || len(answers) != 2 {
		t.Fatalf("%v: %v", err, o)
	}
	if one.whole() != two.whole() {
		t.Error("the phones have different versions")
	}
	// The second has no room for a bigger one; the first takes it.
	two.LimitDisk(45 << 20)
	begun := time.Now()
	both[1] = artifacttest.Make(t, "sql", "2", artifacttest.Noise(200_000, 1), artifacttest.Noise(30<<20, 3))
	before, passed := two.whole(), two.adb.Passed()
	o = one.sov(both...)
	if o.status == 0 || !strings.Contains(o.stderr, two.adb.Serial()) || !strings.Contains(o.stderr, "room") {
		t.Errorf("a full phone: %v", o)
	}
	if two.whole() != before || two.adb.Passed()-passed > 1<<20 || one.whole() == before {
		t.Errorf("a full phone: %d bytes were sent to it in %v", two.adb.Passed()-passed, time.Since(begun))
	}
	if o := two.sov("push", artifacttest.Make(t, "sql", "3", []byte("k"), []byte("r")), "--arch", "amd64", "--device", two.adb.Serial(), "--json"); o.status != 0 {
		t.Errorf("a folder says itself what it is for: %v", o)
	}
}
