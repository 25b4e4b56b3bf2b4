package phone

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sovereign-sql/sov/internal/contract/lock"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// installedBase is the version that users have installed.
const installedBase = "b65ef00"

// TestInstalledBase updates a phone with `sov push` from an earlier version, which has built,
// installed and started its machine. The recipe, the lock, the secret, the settings, the data, the
// earlier version in the other slot and a backup must still work. The earlier version's network
// must be removed.
func TestInstalledBase(t *testing.T) {
	t.Parallel()
	sources, old := sovtest.Release(t, installedBase)
	p := phonetest.NewPushed(t, androidtest.NewADBServer(t))
	serial := []string{"--device", p.ADB.Serial()}
	before := p.Snapshot()
	folder := t.TempDir() // of the user
	recipe, backup := filepath.Join(folder, "sql.yaml"), filepath.Join(folder, "sql.zip")
	text, err := os.ReadFile(filepath.Join(sources, "assets", "sql.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recipe, text, 0o644); err != nil {
		t.Fatal(err)
	}
	by := func(program string, args ...string) sovtest.Outcome {
		t.Helper()
		o := p.SovBy(program, args...)
		if o.Status != 0 {
			t.Fatalf("%s %s: %v\n%s", filepath.Base(filepath.Dir(program)), strings.Join(args, " "), o, p.Logs())
		}
		return o
	}
	build := func(program, out string, flags ...string) string {
		t.Helper()
		by(program, slices.Concat([]string{"build", recipe, "--arch", "arm64", "-o", filepath.Join(folder, out)}, sovtest.FromMirror(), flags)...)
		return filepath.Join(folder, out, "sql", "arm64")
	}

	// The earlier version pins its kernel's source, but does not compile it, which takes longer than
	// everything else here.
	by(old, append([]string{"lock", recipe, "--arch", "arm64"}, sovtest.FromMirror()...)...)
	first := build(old, "old", "--kernel", filepath.Join(sovtest.Artifact(t, "arm64"), "kernel"))
	locked := pins(t, filepath.Join(folder, "sov.lock"))
	by(old, "secrets", "set", "sql", "postgres")
	by(old, append([]string{"push", first, "--start"}, serial...)...)
	p.Ask("create table journey (stop text); insert into journey values ('with the earlier version')")
	by(old, append([]string{"backup", "sql", backup}, serial...)...)

	second := build(sovtest.Program, "new")
	if d := cmp.Diff(locked, pins(t, filepath.Join(folder, "sov.lock"))); d != "" {
		t.Errorf("the lock pins something else: %s", d)
	}
	by(sovtest.Program, append([]string{"status", "sql"}, serial...)...) // while the earlier version runs
	if r := p.Push(second); r.Slot != "b" {
		t.Errorf("pushed: %+v", r)
	}
	// The superuser's rule stays, and push reports how to change it.
	if said := by(sovtest.Program, append([]string{"push", second}, serial...)...).Stdout; !strings.Contains(said, "warning: the superuser postgres logs in from every network") ||
		!strings.Contains(said, "`superuser: host`") {
		t.Errorf("the push does not warn of the superuser: %s", said)
	}
	journey := func(when, want string) {
		t.Helper()
		if got := strings.Join(p.Ask("select stop from journey order by 1"), ", "); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	by(sovtest.Program, append([]string{"restart", "sql"}, serial...)...)
	if s := p.Status(); s.Slot != "b" || s.Phase != runnerapi.Ready || s.Network.Routing != string(vmspec.MainFirst) { // the recipe does not choose another mode
		t.Errorf("after the update: %+v", s)
	}
	journey("after the update", "with the earlier version")
	p.Ask("insert into journey values ('with this version')")
	by(sovtest.Program, append([]string{"test", "sql"}, serial...)...)
	by(sovtest.Program, append([]string{"rollback", "sql"}, serial...)...)
	if s := p.Status(); s.Slot != "a" || s.Phase != runnerapi.Ready {
		t.Errorf("rolled back: %+v", s)
	}
	journey("rolled back", "with the earlier version, with this version")
	by(sovtest.Program, append([]string{"restore", "sql", backup, "--yes"}, serial...)...)
	journey("restored", "with the earlier version")
	// The current recipe has no addresses. The running machine's network is in use on the phone,
	// and the machine must keep it.
	p.Push(sovtest.Artifact(t, "arm64"))
	if text, err := os.ReadFile(p.File(p.VM.Address())); string(text) != "192.168.100.1/24\n" {
		t.Errorf("with the recipe of today it has %q, %v", text, err)
	}
	by(sovtest.Program, append([]string{"stop", "sql"}, serial...)...)
	phonetest.SameNetwork(t, "stopped", before, p.Snapshot())
}

// pins returns what a lock has pinned since its first version. It clears the digests that later
// versions add.
func pins(t *testing.T, path string) *lock.File {
	t.Helper()
	f, err := lock.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range f.Builds {
		for i := range e.Packages {
			e.Packages[i].SHA256, e.Packages[i].Files = "", ""
		}
	}
	return f
}
