package mirror

import (
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// searchPath is PATH in Alpine's images.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// titleAnnotation is the annotation of an image's name, as specified by the OCI image layout. The
// name is the image's repository and tag in the mirror.
const titleAnnotation = "org.opencontainers.image.ref.name"

// imageOf returns an image of the layers.
func imageOf(a arch.Arch, layers []v1.Layer, env []string, cmd ...string) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = "linux", a.Go, platformOf(a).Variant
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config.Env, config.Config.Cmd = env, cmd
	return mutate.ConfigFile(img, config)
}

// platformOf returns the platform under which an index lists the architecture.
func platformOf(a arch.Arch) v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: a.Go}
	if a.Go == arch.ARM64 {
		p.Variant = "v8"
	}
	return p
}

// postgresImage returns an image of the base with PostgreSQL, like the images named
// "postgres:N-alpine".
func postgresImage(a arch.Arch, b *base, packages []*apkbuild.Package, entries map[string]apkbuild.Entry, major string) (v1.Image, error) {
	name := "postgresql" + major
	world := []string{name, name + "-client", name + "-contrib", "icu-data-full", "tzdata"}
	overlay := tree.New()
	chosen := withDependencies(packages, world...)
	if err := install(b.root, overlay, entries, chosen); err != nil {
		return nil, err
	}
	for _, p := range chosen {
		if err := putFiles(overlay, chosenVersion(major, p.Files)); err != nil {
			return nil, fmt.Errorf("link the programs of %s: %w", p.Name, err)
		}
	}
	if err := addWorld(b.root, overlay, world...); err != nil {
		return nil, err
	}
	if err := addUser(b.root, overlay); err != nil {
		return nil, err
	}
	for _, dir := range []string{"var/lib/postgresql", "var/lib/postgresql/data", "run/postgresql"} {
		if err := overlay.Put(dir, &tree.Inode{Mode: tree.S_IFDIR | 0o755, UID: 70, GID: 70}); err != nil {
			return nil, err
		}
	}
	layer, err := treeLayer(overlay)
	if err != nil {
		return nil, err
	}
	env := []string{searchPath, "LANG=C.UTF-8", "PG_MAJOR=" + major, "PGDATA=/var/lib/postgresql/data"}
	return imageOf(a, append(b.layers[:len(b.layers):len(b.layers)], layer), env, "postgres")
}

// writeImages writes images, with their names in the mirror, as an OCI image layout.
func writeImages(dir string, images map[string]v1.Image) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write image layout: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if err := to.AppendImage(images[name], layout.WithAnnotations(map[string]string{titleAnnotation: name})); err != nil {
			return fmt.Errorf("write image %s: %w", name, err)
		}
	}
	return nil
}
