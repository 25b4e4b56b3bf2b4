// Package build implements `sov build` and `sov lock`: it finds the recipe, its lock and the remote
// caches, builds, checks reproducibility on request, and signs. Package stages defines the build.
package build

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/taken"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/reproducible"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
)

// Options configure Run.
type Options struct {
	stages.Options
	CheckReproducible bool            // build twice more without caches and compare
	Sign              *signing.Signer // signs the artifact; nil: it is not signed
	// AllowUnsigned also signs an artifact with unsigned results from remote caches. Without it the
	// error is a *taken.UnsignedError.
	AllowUnsigned bool
}

// Run builds an artifact. An artifact that is not reproducible is not signed; the report lists the
// differences.
func Run(ctx context.Context, o Options) (*Report, error) {
	result, err := stages.Build(ctx, o.Options)
	var rebuilt *reproducible.Report
	if err == nil && o.CheckReproducible {
		rebuilt, err = reproducible.Check(ctx, o.Options, result.Dir)
	}
	if err == nil && o.Sign != nil && (rebuilt == nil || rebuilt.Identical) {
		if !o.AllowUnsigned {
			err = taken.Check(result.Dir)
		}
		if err == nil {
			_, _, err = o.Sign.Sign(ctx, result.Dir)
		}
	} else if err == nil {
		// An unchanged artifact keeps its signature, but the module was rewritten.
		err = signing.SignModule(ctx, result.Dir, o.Recipe.Name)
	}
	if err != nil {
		return nil, err
	}
	return newReport(result, rebuilt), nil
}

// LoadRecipe reads a recipe in a variant, and returns its source too. If name is empty, it reads
// the recipe in the bundle, which must have a signature by key unless key is nil.
func LoadRecipe(name, bundle string, key dsse.PublicKey, v recipe.Variant) (*recipe.Recipe, []byte, error) {
	if name != "" {
		return stages.LoadRecipe(name, v)
	}
	name, text, err := offlinebundle.Recipe(bundle, key)
	if err != nil {
		return nil, nil, err
	}
	return recipe.Compose(recipe.Source{Name: bundle + ": " + name, Text: text}, v, func(recipe.Source, string) (recipe.Source, error) {
		return recipe.Source{}, errors.New("the bundle has no other recipe")
	})
}

// LockBeside returns the path of a recipe's lock file: sov.lock in the folder of the recipe file,
// or in the current folder for an embedded recipe.
func LockBeside(recipe string) string {
	if strings.ContainsRune(recipe, '/') {
		return filepath.Join(filepath.Dir(recipe), "sov.lock")
	}
	return "sov.lock"
}
