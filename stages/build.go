package stages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/taken"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/strictyaml"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/base"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/export"
	"github.com/sovereign-sql/sov/stages/formats"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// maxRecipe is the largest recipe, in bytes; the examples have about 3 KiB.
const maxRecipe = 1 << 20

// LoadRecipe reads a recipe and the recipes that it extends, and applies the variant. name is that
// of a built-in recipe. If it ends in .yaml or .yml or contains a slash, it is a recipe file or the
// folder of an artifact. It also returns the source text. Errors in the recipe are of type
// strictyaml.Errors.
func LoadRecipe(name string, v recipe.Variant) (*recipe.Recipe, []byte, error) {
	src, err := RecipeSource(name)
	if err != nil {
		return nil, nil, err
	}
	return recipe.Compose(src, v, extended)
}

// RecipeSource returns the text that LoadRecipe reads first.
func RecipeSource(name string) (src recipe.Source, err error) {
	src.Name = name
	if info, statErr := os.Stat(name); isFile(name) && statErr == nil && info.IsDir() {
		src.Text, err = provenance.Recipe(name)
		src.Dir = name
	} else if isFile(name) {
		src.Text, err = bound.ReadFile(name, maxRecipe)
		src.Dir = filepath.Dir(name)
	} else {
		src.Text, err = assets.Recipe(name)
		src.Name += ".yaml"
	}
	if err != nil {
		return src, fmt.Errorf("read recipe: %w%s", err, recipeHint(name, src.Name, err))
	}
	return src, nil
}

// extended reads the recipe that another one extends: a built-in one, or a file or an artifact's
// folder, relative to the folder of the extending recipe.
func extended(from recipe.Source, name string) (recipe.Source, error) {
	switch {
	case !isFile(name):
	case from.Dir == "":
		return recipe.Source{}, errors.New("a built-in recipe cannot extend a file")
	case !filepath.IsAbs(name):
		name = filepath.Join(from.Dir, name)
		if !isFile(name) {
			name = "./" + name
		}
	}
	return RecipeSource(name)
}

// isFile reports whether the name of a recipe is a path.
func isFile(name string) bool {
	return strings.ContainsRune(name, '/') || slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(name))
}

// recipeHint suggests a recipe for a file that does not exist: one in the same folder with a
// similar name, or "".
func recipeHint(name, file string, err error) string {
	if !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	dir := filepath.Dir(file)
	beside, _ := filepath.Glob(filepath.Join(dir, "*.yaml")) // a folder name that is a bad pattern matches nothing
	var names []string
	for _, path := range beside {
		names = append(names, filepath.Base(path))
	}
	if near := cmp.Or(strictyaml.Nearest(filepath.Base(file), names), strictyaml.Nearest(filepath.Base(name), names)); near != "" {
		return fmt.Sprintf("; did you mean %s?", dir+"/"+near)
	}
	return "; `sov init` writes a recipe"
}

// Build makes the artifact of a recipe. After an error the Result, if not nil, says which stages
// were done.
func Build(ctx context.Context, o Options) (*Result, error) {
	started := time.Now()
	if o.Program == nil {
		return nil, errors.New("build: the programs sov-init and sov-runner are required")
	}
	if err := formats.Check(o.Formats); err != nil {
		return nil, err
	}
	r, err := resolve.Open(ctx, o.Options)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	result, err := build(ctx, o, r)
	if result != nil {
		result.Elapsed = time.Since(started)
	}
	return result, err
}

func build(ctx context.Context, o Options, r *resolve.Resolver) (*Result, error) {
	guest, err := o.Program(ctx, "sov-init", r.Arch)
	if err != nil {
		return nil, err
	}
	phone, err := o.Program(ctx, artifact.RunnerFile, r.Arch)
	if err != nil {
		return nil, err
	}
	entry, written, err := r.Entry(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.ApplyImage(ctx, entry); err != nil {
		return nil, err
	}
	result := &Result{Lock: entry, LockWritten: written}
	engine := &pipeline.Engine{Store: r.Cache, Jobs: r.Jobs, NoCache: o.NoCache, Deliver: append([]string{bundle.Name}, o.Formats...),
		Scope: r.Recipe.Name + "/" + r.Arch, Progress: r.Reporter}
	if result.Result, err = engine.Build(ctx, graph(o, r, entry, guest, phone)); err != nil {
		return result, err
	}
	if r.Complete(entry, output.Of(result.Result, r.Store)) {
		result.LockWritten = true
	}
	if o.Out == "" {
		return result, nil
	}
	dir := filepath.Join(o.Out, r.Recipe.Name, r.Arch)
	result.Exported, err = export.Artifact(ctx, r.Store, result.Result, dir)
	if err == nil {
		err = taken.Write(dir, takenOf(result.Result))
	}
	if err == nil {
		result.Dir = dir
	}
	return result, err
}

// takenOf lists the results that came from remote caches, without images: those are compared with
// the lock wherever they come from.
func takenOf(result *pipeline.Result) (list []taken.Result) {
	for _, s := range result.Stages {
		if s.From != "" && !base.IsImage(s.Name) {
			list = append(list, taken.Result{Stage: s.Name, Remote: s.From, Signer: s.Signer})
		}
	}
	return list
}
