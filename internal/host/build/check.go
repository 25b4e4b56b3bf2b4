package build

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/files"
)

// CheckRecipe validates a recipe without a network and a build, and returns it. Without an
// architecture in v it checks all, and without a profile also each of the recipe's profiles.
func CheckRecipe(name string, v recipe.Variant) (first *recipe.Recipe, err error) {
	arches := arch.Names()
	if v.Arch != "" {
		arches = []string{v.Arch}
	}
	var faults []error
	said := map[string]bool{}
	check := func(v recipe.Variant) *recipe.Recipe {
		r, _, err := stages.LoadRecipe(name, v)
		if err == nil {
			err = checkFiles(name, r)
		}
		if err != nil && !said[err.Error()] {
			said[err.Error()] = true
			faults = append(faults, err)
		}
		return r
	}
	for _, v.Arch = range arches {
		r := check(v)
		if r == nil {
			continue
		}
		first = r
		if len(v.Profiles) > 0 {
			continue
		}
		for _, profile := range r.Profiles.Names() {
			check(recipe.Variant{Arch: v.Arch, Profiles: []string{profile}, Set: v.Set})
		}
	}
	return first, errors.Join(faults...)
}

// checkFiles checks that the local files of a recipe exist.
func checkFiles(name string, r *recipe.Recipe) error {
	var faults []error
	exists := func(key, path string) {
		if _, err := os.Stat(path); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", name, key, err))
		}
	}
	image := func(key, reference string) {
		ref, err := oci.Parse(reference)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", name, key, err))
		} else if ref.Kind != oci.Registry {
			exists(key, ref.Path)
		}
	}
	image("base.image", r.Base.Image)
	for i, reference := range r.CopiedImages() {
		image(fmt.Sprintf("copy[%d].from", i), reference)
	}
	for i, f := range r.Files {
		if f.Source != "" {
			exists(fmt.Sprintf("files[%d].source", i), files.Source(r, f))
		}
	}
	for i, p := range r.Go {
		if p.Source != "" {
			exists(fmt.Sprintf("go[%d].source", i), filepath.Join(files.Source(r, recipe.File{Source: p.Source}), "go.mod"))
		}
	}
	for i, repository := range r.Packages.Repositories {
		if _, place := recipe.RepositoryTag(repository); !fetch.IsURL(place) {
			exists(fmt.Sprintf("packages.repositories[%d]", i), place)
		}
	}
	return errors.Join(faults...)
}
