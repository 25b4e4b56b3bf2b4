package bundle

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/goprogram"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// parameters returns what the user requested, without directories of this computer.
func (s *stage) parameters() provenance.External {
	asked := s.Made.Inputs
	out := provenance.External{
		Recipe:  provenance.Resource{Name: s.Recipe.Name, Digest: provenance.SHA256(pipeline.DigestOf(s.RecipeText).Hex()), Content: s.RecipeText},
		Version: s.Recipe.Version, Arch: s.Arch, Image: imageName(asked.Image), Packages: asked.Packages,
		Kernel: provenance.KernelDefault,
	}
	for _, r := range asked.Repositories {
		out.Repositories = append(out.Repositories, sourceName(r))
	}
	switch {
	case s.Made.Kernel == nil:
		out.Kernel = provenance.KernelFinished
	case asked.Kernel != "":
		out.Kernel = sourceName(asked.Kernel)
	}
	return out
}

// statement makes provenance.json for an artifact of these files.
func (s *stage) statement(j *pipeline.Job, files []manifest.File) ([]byte, error) {
	var internal provenance.Internal
	var info kernel.Info
	if err := output.ReadJSON(j, kernel.Name, kernel.InfoOutput, &info); err != nil {
		return nil, err
	}
	internal.KernelCompiler = info.Compiler
	if info.Unconfined {
		internal.Unconfined = append(internal.Unconfined, kernel.Name)
	}
	dependencies := []provenance.Resource{s.image(s.Made.Image)}
	for _, i := range s.Made.Copied {
		dependencies = append(dependencies, s.image(i))
	}
	if k := s.Made.Kernel; k != nil {
		dependencies = append(dependencies, kernelSource(*k))
	}
	for _, f := range s.Made.Files {
		if f.IsGo() {
			path, version := goSource(f)
			r := provenance.Resource{Name: f.Path, Digest: map[string]string{"dirHash": f.SHA256}}
			if version != "" {
				r.URI = "pkg:golang/" + path + "@" + url.QueryEscape(version)
			}
			dependencies = append(dependencies, r)
			continue
		}
		r := provenance.Resource{Name: f.Path, Digest: provenance.SHA256(f.SHA256)}
		if fetch.IsURL(f.Source) {
			r.DownloadLocation = f.Source
		}
		dependencies = append(dependencies, r)
	}
	for _, p := range s.Made.Packages {
		r, err := s.packageFile(j, p)
		if err != nil {
			return nil, err
		}
		dependencies = append(dependencies, r)
	}
	if slices.Contains(overlay.Names(s.Programs), tailscale.Name) {
		var built tailscale.Info
		if err := output.ReadJSON(j, tailscale.Name, tailscale.InfoOutput, &built); err != nil {
			return nil, err
		}
		internal.Go = built.Go
		if built.Unconfined {
			internal.Unconfined = append(internal.Unconfined, tailscale.Name)
		}
		for _, m := range built.Modules {
			r, err := goModule(m)
			if err != nil {
				return nil, err
			}
			dependencies = append(dependencies, r)
		}
	}
	if slices.Contains(overlay.Names(s.Programs), goprogram.Name) {
		var built goprogram.Info
		if err := output.ReadJSON(j, goprogram.Name, goprogram.InfoOutput, &built); err != nil {
			return nil, err
		}
		internal.Go = built.Go
		if built.Unconfined {
			internal.Unconfined = append(internal.Unconfined, goprogram.Name)
		}
		for _, m := range built.Modules {
			r, err := goModule(m)
			if err != nil {
				return nil, err
			}
			dependencies = append(dependencies, r)
		}
	}
	return provenance.New(files, s.Builder, s.parameters(), internal, dependencies).Encode()
}

// image describes an image, with a package URL (https://github.com/package-url/purl-spec, type oci)
// if it comes from a registry.
func (s *stage) image(made lock.Image) provenance.Resource {
	r := provenance.Resource{Name: imageName(made.Reference), Digest: digestSet(made.Digest)}
	if ref, err := oci.Parse(made.Reference); err == nil && ref.Kind == oci.Registry {
		repository := ref.Name.Context().Name()
		r.URI = fmt.Sprintf("pkg:oci/%s@%s?arch=%s&repository_url=%s", path.Base(repository), url.QueryEscape(made.Digest), s.Arch, url.QueryEscape(repository))
	}
	return r
}

func kernelSource(k lock.Kernel) provenance.Resource {
	r := provenance.Resource{Name: "linux", URI: "pkg:generic/linux@" + url.QueryEscape(k.Version), Digest: provenance.SHA256(k.SHA256)}
	if fetch.IsURL(k.Source) {
		r.DownloadLocation = k.Source
	}
	return r
}

// packageFile describes an Alpine package by the SHA-256 of its control and data members, without
// the signature, which a mirror may replace. The name "sha256" is reserved for a digest of the
// whole file.
func (s *stage) packageFile(j *pipeline.Job, p lock.Package) (provenance.Resource, error) {
	file := packages.FileOutput(p)
	b, err := j.Output(packages.Name, file)
	if err != nil {
		return provenance.Resource{}, err
	}
	r := provenance.Resource{Name: file, URI: fmt.Sprintf("pkg:apk/alpine/%s@%s?arch=%s", url.QueryEscape(p.Name), url.QueryEscape(p.Version), packages.AlpineArch(s.Arch)),
		Digest: map[string]string{"apkContent": b.Digest.Hex()}}
	if location := packages.Locate(p.Repository, s.Arch, file); fetch.IsURL(location) {
		r.DownloadLocation = location
	}
	return r, nil
}

// goModule names a module by its checksum, which in-toto writes in hexadecimal
// (spec/v1/digest_set.md, "dirHash").
func goModule(m tailscale.Module) (provenance.Resource, error) {
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil || len(sum) == 0 {
		return provenance.Resource{}, fmt.Errorf("module %s %s has no checksum", m.Path, m.Version)
	}
	return provenance.Resource{URI: "pkg:golang/" + m.Path + "@" + url.QueryEscape(m.Version),
		Digest: map[string]string{"dirHash": hex.EncodeToString(sum)}}, nil
}

func digestSet(digest string) map[string]string {
	algorithm, sum, _ := strings.Cut(digest, ":")
	return map[string]string{algorithm: sum}
}
