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

// maxRecipe bounds a recipe, in bytes; the examples have some 3 KiB.
const maxRecipe = 1 << 20

// LoadRecipe reads the built-in recipe of that name or, if name ends in .yaml or .yml or has a
// slash, the file, or that of the artifact in the folder, with what it extends, in the variant that
// is meant. It also returns the source text. Errors in the recipe are of type strictyaml.Errors.
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

// extended reads what a recipe extends: a built-in one, or a file or an artifact's folder relative
// to its own folder.
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

// isFile reports whether the name of a recipe is that of a file.
func isFile(name string) bool {
	return strings.ContainsRune(name, '/') || slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(name))
}

// recipeHint says which recipe was meant by a file that does not exist: one beside it that is
// called alike, if there is one.
func recipeHint(name, file string, err error) string {
	if !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	dir := filepath.Dir(file)
	beside, _ := filepath.Glob(filepath.Join(dir, "*.yaml")) // a folder's name with a bad pattern finds nothing
	var names []string
	for _, path := range beside {
		names = append(names, filepath.Base(path))
	}
	if near := cmp.Or(strictyaml.Nearest(filepath.Base(file), names), strictyaml.Nearest(filepath.Base(name), names)); near != "" {
		return fmt.Sprintf("; did you mean %s?", dir+"/"+near)
	}
	return "; `sov init` writes a recipe"
}

// Build makes the artifact of a recipe. After a failure the Result, if there is
// one, says which stages were done.
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

// takenOf lists what came from remote caches. Images are left out: they are compared with the lock
// as a whole, wherever they come from.
func takenOf(result *pipeline.Result) (list []taken.Result) {
	for _, s := range result.Stages {
		if s.From != "" && !base.IsImage(s.Name) {
			list = append(list, taken.Result{Stage: s.Name, Remote: s.From, Signer: s.Signer})
		}
	}
	return list
}
