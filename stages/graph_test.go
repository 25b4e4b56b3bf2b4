package stages

import (
	"context"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/resolve"
)

func TestGraphOfSQL(t *testing.T) {
	var names []string
	for _, st := range sqlGraph(t) {
		names = append(names, st.Name())
		if st.Name() == "rootfs" {
			if got := strings.Join(st.Needs(), " "); got != "base packages tailscale guestinit postgres" {
				t.Errorf("the root file system is made of %q", got)
			}
		}
	}
	if got := strings.Join(names, " "); got != "kernel base packages tailscale guestinit postgres runner rootfs bundle" {
		t.Errorf("stages: %q", got)
	}
}

func sqlGraph(t *testing.T) []pipeline.Stage {
	t.Helper()
	r, text, err := LoadRecipe("sql")
	if err != nil {
		t.Fatal(err)
	}
	o := resolve.Options{Recipe: r, RecipeText: text, Arch: "arm64", CacheDir: t.TempDir()}
	resolver, err := resolve.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resolver.Close() })
	return graph(Options{Options: o}, resolver, &lock.Entry{}, []byte("x"), []byte("x"))
}

// A motd is a stage as the documentation describes one: it writes /etc/motd.
type motd struct{ text string }

func (motd) Name() string    { return "motd" }
func (motd) Needs() []string { return nil }

func (m motd) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	k.Add("version", 1)
	k.Add("text", m.text)
	return nil
}

func (m motd) Run(_ context.Context, j *pipeline.Job) error {
	_, err := j.Write("motd.tar", nil)
	return err
}

// TestStageThatNobodyTakes adds a stage to the graph of sql that does not
// declare itself as a share, and one that stands behind the stage that applies
// shares.
func TestStageThatNobodyTakes(t *testing.T) {
	list := sqlGraph(t)
	deliver := []string{"bundle"}
	if err := checkTaken(list, deliver); err != nil {
		t.Error(err)
	}
	for what, st := range map[string]pipeline.Stage{"not a share": motd{}, "a share behind rootfs": overlay.Share{Stage: motd{}}} {
		if err := checkTaken(append(list[:len(list):len(list)], st), deliver); err == nil || !strings.Contains(err.Error(), "stage motd: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
