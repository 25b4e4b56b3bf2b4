package stages_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
)

// TestExtendsArtifact extends the recipe of a built machine, whose folder contains the recipe.
func TestExtendsArtifact(t *testing.T) {
	w := tinybuild.New(t)
	built, err := stages.Build(t.Context(), w.Options(t.TempDir(), w.Recipe("")))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "machine"), os.DirFS(built.Dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "mine.yaml")
	w.Write(path, []byte("extends: ./machine\nname: mine\n"))
	r, text, err := stages.LoadRecipe(path, recipe.Variant{})
	if err != nil {
		t.Fatal(err)
	}
	below, _, err := stages.LoadRecipe(built.Dir, recipe.Variant{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "mine" || r.Base.Image != below.Base.Image || strings.Contains(string(text), "extends") {
		t.Errorf("it is %s on %s, below is %s:\n%s", r.Name, r.Base.Image, below.Base.Image, text)
	}
	if err := os.Remove(filepath.Join(dir, "machine", "provenance.json")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := stages.LoadRecipe(path, recipe.Variant{}); err == nil || !strings.Contains(err.Error(), "has no recipe") {
		t.Errorf("of a folder without a recipe: %v", err)
	}
}
