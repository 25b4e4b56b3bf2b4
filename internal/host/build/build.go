// Package build is `sov build` and `sov lock` without their flags: it finds the recipe, its lock
// and the remote caches, builds, compares with builds from nothing if asked to, and signs. What a
// build consists of is package stages'.
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

// Options say what to build, and what else to do with the artifact.
type Options struct {
	stages.Options
	CheckReproducible bool            // build twice more from nothing and compare
	Sign              *signing.Signer // signs the artifact; nil: it is not signed
	// AllowUnsigned signs also what has parts that were taken from remote caches without a
	// signature. Without it that is a *taken.UnsignedError.
	AllowUnsigned bool
}

// Run builds an artifact. One that is not reproducible is not signed; the report says what differs.
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
		// An artifact that has not changed keeps its signature, and the module was written again.
		err = signing.SignModule(ctx, result.Dir, o.Recipe.Name)
	}
	if err != nil {
		return nil, err
	}
	return newReport(result, rebuilt), nil
}

// LoadRecipe reads the recipe that name means, in the variant that is meant, and returns its source
// too. Without a name it is the recipe in the bundle, which key must have signed unless it is nil.
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
