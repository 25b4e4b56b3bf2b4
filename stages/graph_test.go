package stages

import (
	"context"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
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
	r, text, err := LoadRecipe("sql", recipe.Variant{})
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

// An issueStage is a stage like the one in the documentation: it writes /etc/issue.
type issueStage struct{ text string }

func (issueStage) Name() string    { return "issue" }
func (issueStage) Needs() []string { return nil }

func (m issueStage) Key(k *pipeline.Key, _ pipeline.Inputs) error {
	k.Add("version", 1)
	k.Add("text", m.text)
	return nil
}

func (m issueStage) Run(_ context.Context, j *pipeline.Job) error {
	_, err := j.Write("issue.tar", nil)
	return err
}

// TestUnusedStage adds to the graph of sql a stage that is not declared as a share, and a share
// after the stage that applies shares.
func TestUnusedStage(t *testing.T) {
	cache, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	engine := &pipeline.Engine{Store: cache, Deliver: []string{"bundle"}}
	list := sqlGraph(t)
	for what, st := range map[string]pipeline.Stage{"not a share": issueStage{}, "a share behind rootfs": overlay.Share{Stage: issueStage{}}} {
		_, err := engine.Explain(t.Context(), append(list[:len(list):len(list)], st))
		if err == nil || !strings.Contains(err.Error(), "stage issue: nothing takes its output") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
