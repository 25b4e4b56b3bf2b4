package built

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/stages"
)

// Dir returns the folder of an artifact for an architecture. What names it is the folder itself, a
// recipe, whose artifact goes by the name in the recipe, or the name of a machine that was built
// into out.
func Dir(recipe, out, arch string) (string, error) {
	if _, err := os.Stat(filepath.Join(recipe, artifact.SpecFile)); err == nil {
		return recipe, nil
	}
	if info, err := os.Stat(recipe); err == nil && info.IsDir() && strings.ContainsRune(recipe, '/') {
		return "", fmt.Errorf("%s is not a built machine: it has no vm.json: build one with `sov build`", recipe)
	}
	if artifact.ValidName(recipe) {
		if built, err := os.Stat(filepath.Join(out, recipe)); err == nil && built.IsDir() {
			return filepath.Join(out, recipe, arch), nil
		}
	}
	r, _, err := stages.LoadRecipe(recipe)
	if err != nil {
		return "", err
	}
	return filepath.Join(out, r.Name, arch), nil
}

// Dirs returns the folders of a recipe's artifacts, one for each architecture. With all, an
// architecture that is not built is left out; otherwise it is an error.
func Dirs(recipe, out string, arches []string, all bool) ([]string, error) {
	var dirs []string
	for _, arch := range arches {
		dir, err := Dir(recipe, out, arch)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(dir, artifact.ManifestFile)); errors.Is(err, fs.ErrNotExist) && all {
			continue
		} else if err != nil {
			return nil, NotBuilt(err)
		}
		if !slices.Contains(dirs, dir) { // a folder is what it is, whatever the architecture
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s has no built machine %s: build it with `sov build`, or name the out folder with -o", out, recipe)
	}
	return dirs, nil
}

// Machine returns the name of the machine that an argument means, and its recipe where that is
// known: the argument is a recipe, or an artifact's folder.
func Machine(argument string) (string, *recipe.Recipe, error) {
	if _, err := os.Stat(filepath.Join(argument, artifact.SpecFile)); err == nil {
		spec, err := localvm.ReadSpec(argument)
		if err != nil {
			return "", nil, err
		}
		return spec.Name, nil, nil
	}
	r, _, err := stages.LoadRecipe(argument)
	if err != nil {
		return "", nil, err
	}
	return r.Name, r, nil
}
