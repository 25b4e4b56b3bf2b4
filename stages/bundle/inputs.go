package bundle

import (
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/pipeline"
)

// inputs lists what the artifact was made from.
func (s *stage) inputs() []manifest.Input {
	made := s.Made
	out := []manifest.Input{
		{Kind: "recipe", Name: s.Recipe.Name, Version: s.Recipe.Version, Digest: string(pipeline.DigestOf(s.RecipeText))},
		{Kind: "image", Name: imageName(made.Image.Reference), Digest: made.Image.Digest},
	}
	for _, i := range made.Copied {
		out = append(out, manifest.Input{Kind: "image", Name: imageName(i.Reference), Digest: i.Digest})
	}
	if k := made.Kernel; k != nil {
		out = append(out, manifest.Input{Kind: "kernel", Name: "linux", Version: k.Version, Source: sourceName(k.Source), Digest: "sha256:" + k.SHA256})
	}
	if made.Tailscale != "" {
		out = append(out, manifest.Input{Kind: "module", Name: "tailscale.com", Version: made.Tailscale})
	}
	for _, f := range made.Files {
		if f.IsGo() {
			path, version := goSource(f)
			out = append(out, manifest.Input{Kind: "module", Name: path, Version: version})
			continue
		}
		out = append(out, manifest.Input{Kind: "file", Name: f.Path, Source: sourceName(f.Source), Digest: "sha256:" + f.SHA256})
	}
	for _, p := range made.Packages {
		out = append(out, manifest.Input{Kind: "package", Name: p.Name, Version: p.Version, Source: sourceName(p.Repository), Digest: p.Checksum})
	}
	return out
}

// imageName returns a reference without the directory of a local image. The directory is private,
// and the artifact must not depend on it.
func imageName(reference string) string {
	ref, err := oci.Parse(reference)
	if err != nil {
		return reference
	}
	return ref.ShortName()
}

// goSource returns the path and version of a Go program's module, or the name of its folder.
func goSource(f lock.RecipeFile) (path, version string) {
	path, version, _ = strings.Cut(strings.TrimPrefix(f.Source, lock.GoPrefix), "@")
	if version == "" {
		path = filepath.Base(path)
	}
	return path, version
}

// sourceName returns a location, or the last element of a path.
func sourceName(location string) string {
	if tag, place := recipe.RepositoryTag(location); tag != "" {
		return "@" + tag + " " + sourceName(place)
	}
	if fetch.IsURL(location) || strings.HasPrefix(location, "deb:") {
		return location
	}
	return filepath.Base(location)
}
