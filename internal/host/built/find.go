package built

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/stages"
)

// Dir returns the folder of an artifact for an architecture. The argument is the folder itself, a
// recipe, or the name of a machine that was built into out.
func Dir(argument, out, arch string) (string, error) {
	if _, err := os.Stat(filepath.Join(argument, artifact.SpecFile)); err == nil {
		return argument, nil
	}
	if info, err := os.Stat(argument); err == nil && info.IsDir() && strings.ContainsRune(argument, '/') {
		return "", fmt.Errorf("%s is not a built machine: it has no vm.json: name the folder of an architecture, or build one with `sov build`", argument)
	}
	if artifact.ValidName(argument) {
		if built, err := os.Stat(filepath.Join(out, argument)); err == nil && built.IsDir() {
			return filepath.Join(out, argument, arch), nil
		}
	}
	r, _, err := stages.LoadRecipe(argument, recipe.Variant{})
	if ext := filepath.Ext(argument); errors.Is(err, fs.ErrNotExist) && ext != ".yaml" && ext != ".yml" {
		return "", fmt.Errorf("%s is neither a machine that was built into %s nor a recipe: `sov list` shows the machines", argument, out)
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(out, r.Name, arch), nil
}

// Dirs returns the folders of a recipe's artifacts, one for each architecture. With all,
// architectures that are not built are skipped; otherwise they are an error.
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
		if !slices.Contains(dirs, dir) { // a folder is the same for every architecture
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s has no built machine %s: build it with `sov build`, or name the out folder with -o", out, recipe)
	}
	return dirs, nil
}

// Machine returns the name of an argument's machine, and its recipe if known. The argument is a
// recipe, an artifact's folder, or the name of a machine, which may exist only on a phone.
func Machine(argument string) (string, *recipe.Recipe, error) {
	if _, err := os.Stat(filepath.Join(argument, artifact.SpecFile)); err == nil {
		spec, err := localvm.ReadSpec(argument)
		if err != nil {
			return "", nil, err
		}
		return spec.Name, nil, nil
	}
	r, _, err := stages.LoadRecipe(argument, recipe.Variant{})
	if errors.Is(err, fs.ErrNotExist) && artifact.ValidName(argument) {
		return argument, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	return r.Name, r, nil
}

// Secrets returns the declared secrets of a built machine: of an artifact's folder, or of a machine
// that was built into the folder out. It returns nil if they are unknown.
func Secrets(argument string) (declared []recipe.Secret) {
	dirs := []string{argument}
	if artifact.ValidName(argument) {
		for _, a := range arches(filepath.Join(outHere, argument)) {
			dirs = append(dirs, filepath.Join(outHere, argument, a))
		}
	}
	for _, dir := range dirs {
		spec, err := localvm.ReadSpec(dir)
		if err != nil {
			continue
		}
		for _, s := range spec.Secrets {
			declared = append(declared, recipe.Secret(s))
		}
	}
	return declared
}

// outHere is the default output folder of sov build.
const outHere = "out"

// An Artifact is a machine that was built.
type Artifact struct {
	Name    string `json:"name"`
	Arch    string `json:"arch"`
	Version string `json:"version"`
	Dir     string `json:"dir"`
	Size    int64  `json:"size"` // of its files together, in bytes

	SignedBy string `json:"signed_by,omitempty"` // ID of the key that signed it; empty: it is not signed
	Serial   int64  `json:"serial,omitempty"`    // of that signature
}

// List returns the machines that were built into out, by name and architecture. It skips unreadable
// artifacts, which package verify reports.
func List(out string) []Artifact {
	list := []Artifact{}
	entries, _ := os.ReadDir(out)
	for _, e := range entries {
		if !artifact.ValidName(e.Name()) {
			continue
		}
		for _, a := range arches(filepath.Join(out, e.Name())) {
			dir := filepath.Join(out, e.Name(), a)
			m, err := manifest.Load(dir)
			if err != nil {
				continue
			}
			one := Artifact{Name: m.Name, Arch: m.Arch, Version: m.Version, Dir: dir}
			for _, f := range m.Files {
				one.Size += f.Size
			}
			if signed, err := provenance.ReadSigned(dir); err == nil && signed != nil {
				one.SignedBy, one.Serial = signed.By.ID(), signed.Serial
			}
			list = append(list, one)
		}
	}
	return list
}

// arches returns the architectures for which a machine was built into dir.
func arches(dir string) []string {
	return slices.DeleteFunc(arch.Names(), func(a string) bool {
		_, err := os.Stat(filepath.Join(dir, a, artifact.ManifestFile))
		return err != nil
	})
}

// Find returns the path for an argument of a command that reads artifacts: a folder or an image, or
// the name of a machine that was built into the folder out. If the machine was built for several
// architectures, the error names their folders.
func Find(argument string) (string, error) {
	if _, err := os.Lstat(argument); err == nil || !artifact.ValidName(argument) {
		return argument, nil // opening it reports a missing file
	}
	switch found := arches(filepath.Join(outHere, argument)); len(found) {
	case 0:
		return argument, nil
	case 1:
		return filepath.Join(outHere, argument, found[0]), nil
	default:
		return "", fmt.Errorf("%s was built for several architectures: name one: %s", argument, filepath.Join(outHere, argument, strings.Join(found, ", "+filepath.Join(outHere, argument)+"/")))
	}
}
