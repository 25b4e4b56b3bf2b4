package slots

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// bench is a machine's slots. It installs versions as a push does.
type bench struct {
	t  *testing.T
	vm phonepath.VM
}

func newBench(t *testing.T) *bench {
	t.Helper()
	vm, err := phonepath.Root(t.TempDir()).VM("sql")
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, vm}
}

// install installs a version while the slot running runs, and returns the version's slot.
func (b *bench) install(version, running string) string {
	b.t.Helper()
	target, err := Target(b.vm, running)
	if err != nil {
		b.t.Fatal(err)
	}
	dir := artifacttest.Make(b.t, "sql", version, []byte("kernel "+version), []byte("rootfs "+version))
	if err := os.CopyFS(b.vm.Incoming(), os.DirFS(dir)); err != nil {
		b.t.Fatal(err)
	}
	if err := Commit(b.vm, target); err != nil {
		b.t.Fatal(err)
	}
	return target
}

// is checks the content of both slots, as "VERSION STATE", and which slot is current.
func (b *bench) is(current, a, other string) {
	b.t.Helper()
	slot, err := Current(b.vm)
	if err != nil || slot != current {
		b.t.Errorf("current is %q, want %q: %v", slot, current, err)
	}
	for i, s := range List(b.vm) {
		got := strings.TrimSpace(s.Version + " " + string(s.State))
		if want := []string{a, other}[i]; got != want || s.Current != (s.Slot == current) {
			b.t.Errorf("slot %s is %+v, want %s", s.Slot, s, want)
		}
	}
}

func (b *bench) try() *Trial {
	b.t.Helper()
	_, trial, back, err := Try(b.vm)
	if err != nil || back != nil {
		b.t.Fatal(back, err)
	}
	return trial
}

func (b *bench) pass() {
	b.t.Helper()
	if err := b.try().Passed(); err != nil {
		b.t.Fatal(err)
	}
}

// TestLife: the life of versions, from the first on.
func TestLife(t *testing.T) {
	b := newBench(t)
	if _, err := Current(b.vm); !errors.Is(err, ErrNone) {
		t.Errorf("nothing installed: %v", err)
	}
	b.install("1", "")
	b.is("a", "1 new", "empty")
	if trial := b.try(); trial == nil || trial.CanGiveUp() {
		t.Errorf("the first version: %+v", trial)
	}
	if _, err := RollBack(b.vm); err == nil {
		t.Error("rolled back to nothing")
	}
	b.pass()
	b.is("a", "1 good", "empty")
	if b.try() != nil {
		t.Error("a good version is on trial")
	}

	b.install("2", "a")
	b.is("b", "1 good", "2 new")
	trial := b.try()
	for range 3 {
		if err := trial.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	if err := trial.Undo(); err != nil || b.try().Starts() != 2 {
		t.Errorf("%d starts are noted: %v", b.try().Starts(), err)
	}
	back, err := trial.GiveUp("it panics")
	if err != nil || back.From != "b" || back.Version != "2" || back.To != "a" {
		t.Errorf("give up: %+v, %v", back, err)
	}
	b.is("a", "1 good", "2 bad")
	if s := Look(b.vm, "b"); s.Reason != "it panics" || s.Since.IsZero() {
		t.Errorf("%+v", s)
	}
	if _, err := RollBack(b.vm); err == nil || !strings.Contains(err.Error(), "it panics") {
		t.Errorf("back to a bad version: %v", err)
	}

	b.install("3", "a")
	b.is("b", "1 good", "3 new")
	b.pass()
	b.is("b", "1 good", "3 good")
	for _, want := range []string{"a", "b"} {
		if s, err := RollBack(b.vm); err != nil || s.Slot != want {
			t.Errorf("roll back: %+v, %v", s, err)
		}
	}
	b.is("b", "1 good", "3 good")
}

// TestDamaged: a version that was not tried is replaced by the next. A version that is being tried
// is not. A good version that is damaged is rolled back if the other version may work. Otherwise it
// stays current and is bad.
func TestDamaged(t *testing.T) {
	b := newBench(t)
	b.install("1", "")
	b.pass()
	b.install("2", "a")
	b.pass()
	back, err := Damaged(b.vm, "b", "block 7")
	if err != nil || back == nil || back.From != "b" || back.To != "a" || back.Version != "2" || back.Reason != "block 7" {
		t.Errorf("%+v, %v", back, err)
	}
	b.is("a", "1 good", "2 bad")
	if back, err := Damaged(b.vm, "b", "again"); err == nil {
		t.Errorf("a slot that is not current: %+v", back)
	}
	if back, err := Damaged(b.vm, "a", "block 8"); err != nil || back != nil {
		t.Errorf("no other: %+v, %v", back, err)
	}
	b.is("a", "1 bad", "2 bad")
	if s := Look(b.vm, "a"); s.Reason != "block 8" {
		t.Errorf("%+v", s)
	}
	if slot := b.install("1", "a"); slot != "b" {
		t.Errorf("repaired in slot %s", slot)
	}
}

func TestTarget(t *testing.T) {
	b := newBench(t)
	b.install("1", "")
	b.pass()
	b.install("2", "a")
	if _, err := Target(b.vm, "b"); !errors.Is(err, ErrTrial) {
		t.Errorf("while it is tried: %v", err)
	}
	b.is("b", "1 good", "2 new")
	b.install("3", "a")
	b.is("b", "1 good", "3 new")
	if err := Drop(b.vm, "b"); err == nil {
		t.Error("the current slot was dropped")
	}
	if err := os.Remove(filepath.Join(b.vm.Slot("b"), "kernel")); err != nil {
		t.Fatal(err)
	}
	if s := Look(b.vm, "b"); s.State != runnerapi.SlotBroken {
		t.Errorf("without its kernel: %+v", s)
	}
	back, err := b.try().GiveUp("no kernel")
	if err != nil || back.To != "a" {
		t.Errorf("%+v, %v", back, err)
	}
}

// TestCommitToCurrent: Commit refuses a slot that has become current in the meantime.
func TestCommitToCurrent(t *testing.T) {
	b := newBench(t)
	b.install("1", "")
	if err := os.MkdirAll(b.vm.Incoming(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Commit(b.vm, "a"); err == nil {
		t.Error("the current slot was replaced")
	}
	b.is("a", "1 new", "empty")
}

// TestPowerLoss: power is lost at each point of an installation and of a rollback. The current
// version is whole, and the next start completes the work.
func TestPowerLoss(t *testing.T) {
	b := newBench(t)
	b.install("1", "")
	b.pass()
	b.install("2", "a")
	// During a Commit: the replaced slot no longer has its name, and the new one does not have it
	// yet.
	if err := point(b.vm, "a"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.vm.Slot("b"), filepath.Join(b.vm.Slots(), ".old")); err != nil {
		t.Fatal(err)
	}
	b.is("a", "1 good", "empty")
	b.install("3", "a")
	b.is("b", "1 good", "3 new")
	if _, err := os.Lstat(filepath.Join(b.vm.Slots(), ".old")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what gave way is left: %v", err)
	}
	// During a GiveUp: the mark is written, and the link still points to the slot.
	if err := writeMark(b.vm.Slot("b"), mark{State: runnerapi.SlotBad, Reason: "it panics"}); err != nil {
		t.Fatal(err)
	}
	slot, trial, back, err := Try(b.vm)
	if err != nil || slot != "a" || trial != nil || back == nil || back.Reason != "it panics" {
		t.Errorf("%s, %+v, %+v, %v", slot, trial, back, err)
	}
	b.is("a", "1 good", "3 bad")
	// A truncated mark counts as missing.
	if err := os.WriteFile(filepath.Join(b.vm.Slot("b"), markFile), []byte(`{"state":"ba`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.is("a", "1 good", "3 new")
}

func TestParseRefuses(t *testing.T) {
	one := artifacttest.Make(t, "sql", "1", []byte("k"), []byte("r"))
	other := artifacttest.Make(t, "web", "1", []byte("k"), []byte("r"))
	read := func(dir, name string) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if _, err := installed.Parse(read(one, artifact.ManifestFile), read(one, artifact.SpecFile)); err != nil {
		t.Fatal(err)
	}
	replaced := strings.ReplaceAll
	for name, texts := range map[string][2]string{
		"another machine's vm.json": {string(read(one, artifact.ManifestFile)), string(read(other, artifact.SpecFile))},
		"an altered vm.json":        {string(read(one, artifact.ManifestFile)), string(read(one, artifact.SpecFile)) + "\n"},
		"a file that is not listed": {replaced(string(read(one, artifact.ManifestFile)), `"kernel"`, `"kernem"`), string(read(one, artifact.SpecFile))},
		"a later format":            {replaced(string(read(one, artifact.ManifestFile)), `"format": 1`, `"format": 2`), string(read(one, artifact.SpecFile))},
		"a path":                    {replaced(string(read(one, artifact.ManifestFile)), `"kernel"`, `"../kernel"`), replaced(string(read(one, artifact.SpecFile)), `"kernel"`, `"../kernel"`)},
	} {
		if _, err := installed.Parse([]byte(texts[0]), []byte(texts[1])); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	dir := artifacttest.Make(f, "sql", "1", []byte("k"), []byte("r"))
	m, _ := os.ReadFile(filepath.Join(dir, artifact.ManifestFile))
	s, _ := os.ReadFile(filepath.Join(dir, artifact.SpecFile))
	f.Add(m, s)
	f.Fuzz(func(t *testing.T, m, s []byte) {
		defer costtest.Text.Watch(t, len(m)+len(s))()
		a, err := installed.Parse(m, s)
		if err != nil {
			return
		}
		for _, file := range a.Files {
			if filepath.Base(file.Name) != file.Name || strings.HasPrefix(file.Name, ".") {
				t.Errorf("a file is called %q", file.Name)
			}
		}
	})
}
