// Package offlinebundle writes offline bundles: one file with everything that a locked build would
// download. Package offline defines the format.
package offlinebundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/base"
	"github.com/sovereign-sql/sov/stages/files"
	"github.com/sovereign-sql/sov/stages/goprogram"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/packages"
	"github.com/sovereign-sql/sov/stages/resolve"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// A Report describes a bundle that was written.
type Report struct {
	Path        string         `json:"path"`
	Size        int64          `json:"size"`         // bytes
	Items       map[string]int `json:"items"`        // number of each kind
	LockWritten bool           `json:"lock_written"` // the lock had no entry, so one was resolved
	Signed      bool           `json:"signed,omitempty"`
}

// Write writes one file with all inputs of a build of the recipe's lock entry: images, packages,
// the kernel's source, Go modules, the recipe and the lock. It fetches what the cache does not
// have. The file appears at path when it is complete. The same lock gives the same file. With a
// key, Write also writes the signature to a second file.
func Write(ctx context.Context, o resolve.Options, path string, key dsse.PrivateKey) (*Report, error) {
	file, err := durable.Create(path, 0o644) // before gathering, which takes long
	if err != nil {
		return nil, fmt.Errorf("write bundle: %w", err)
	}
	defer file.Close()
	r, err := resolve.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	entry, written, err := r.Entry(ctx)
	if err != nil {
		return nil, err
	}
	g := &gathering{Resolver: r, open: map[offline.Item]func() (io.ReadCloser, error){}}
	defer func() { os.RemoveAll(g.scratch) }()
	if err := g.gather(ctx, entry); err != nil {
		return nil, fmt.Errorf("gather what recipe %s for %s is made from: %w", r.Recipe.Name, r.Arch, err)
	}
	report := &Report{Path: path, Items: map[string]int{}, LockWritten: written || g.lockWritten}
	for _, i := range g.index.Items {
		report.Items[string(i.Kind)]++
	}
	err = r.Do(ctx, "write bundle", func(ctx context.Context, t *pipeline.Task) error {
		report.Size, err = g.write(ctx, file, t)
		return err
	})
	if err != nil {
		return report, err
	}
	if key != nil {
		report.Signed = true
		return report, offline.Sign(path, key)
	}
	// Remove the signature of the previous bundle.
	if err := os.Remove(offline.SignatureOf(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return report, err
	}
	return report, nil
}

// A gathering collects the items of a bundle.
type gathering struct {
	*resolve.Resolver
	index   offline.Index
	open    map[offline.Item]func() (io.ReadCloser, error)
	scratch string // folder, removed at the end

	lockWritten bool // the lock file had no digests of the packages
}

func (g *gathering) add(kind offline.Kind, name string, b pipeline.Blob, open func() (io.ReadCloser, error)) {
	item := offline.Item{Kind: kind, Name: name, Size: b.Size, SHA256: b.Digest.Hex()}
	g.index.Items = append(g.index.Items, item)
	g.open[item] = open
}

func (g *gathering) addBytes(kind offline.Kind, name string, text []byte) {
	g.add(kind, name, pipeline.Blob{Digest: pipeline.DigestOf(text), Size: int64(len(text))},
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil })
}

func (g *gathering) addBlob(kind offline.Kind, name string, b pipeline.Blob) {
	g.add(kind, name, b, func() (io.ReadCloser, error) { return g.Store.Open(b) })
}

func (g *gathering) gather(ctx context.Context, entry *lock.Entry) error {
	g.index.Format, g.index.Recipe, g.index.Arch = offline.Format, g.Recipe.Name, g.Arch
	stages := []pipeline.Stage{g.Base(entry), g.Packages(entry)}
	for _, image := range g.Copied(entry) {
		stages = append(stages, image.Stage)
	}
	if len(g.Recipe.Files) > 0 {
		stages = append(stages, g.Files(entry))
	}
	made, err := g.Run(ctx, stages...)
	if err != nil {
		return err
	}
	if g.Complete(entry, made) {
		g.lockWritten = true
	}
	var file lock.File
	file.Put(*entry)
	g.addBytes(offline.Recipe, g.Recipe.Name, g.RecipeText)
	g.addBytes(offline.Lock, offline.LockName, file.Encode())
	if err := g.images(made, entry); err != nil {
		return err
	}
	for _, f := range entry.Files {
		if f.IsGo() {
			continue
		}
		b, ok := output.Find(made, files.Name, files.ContentOutput(f.SHA256))
		if !ok {
			return fmt.Errorf("file %s is missing", f.Path)
		}
		if _, twice := g.index.Find(offline.File, f.SHA256); !twice {
			g.addBlob(offline.File, f.SHA256, b)
		}
	}
	if err := g.packageFiles(made, entry); err != nil {
		return err
	}
	if entry.Kernel != nil && g.Kernel == "" {
		if err := g.kernelArchive(ctx, *entry.Kernel); err != nil {
			return err
		}
	}
	if g.Recipe.Tailscale.Enabled || len(g.Recipe.Go) > 0 {
		return g.modules(ctx, entry)
	}
	return nil
}

// images adds the base image and the images that files are copied from.
func (g *gathering) images(made output.Source, entry *lock.Entry) error {
	seen := map[string]bool{} // layers and images may occur twice
	if err := g.image(made, base.Name, entry.Image.Digest, seen); err != nil {
		return err
	}
	for i, image := range entry.Copied {
		if err := g.image(made, base.CopiedName(i), image.Digest, seen); err != nil {
			return err
		}
	}
	return nil
}

func (g *gathering) image(made output.Source, stage, digest string, seen map[string]bool) error {
	if seen[digest] {
		return nil
	}
	seen[digest] = true
	var about base.Image
	if err := output.ReadJSON(made, stage, base.ImageFile, &about); err != nil {
		return err
	}
	if b, ok := output.Find(made, stage, base.ManifestFile); ok { // an image written by docker save has none
		g.addBlob(offline.ImageManifest, digest, b)
	}
	if b, ok := output.Find(made, stage, base.ConfigFile); ok {
		g.addBlob(offline.ImageConfig, digest, b)
	}
	for i, id := range about.DiffIDs {
		b, ok := output.Find(made, stage, base.LayerFile(i))
		if !ok {
			return fmt.Errorf("layer %s of image %s is missing", id, digest)
		}
		if !seen[id] {
			g.addBlob(offline.Layer, id, b)
		}
		seen[id] = true
	}
	return nil
}

func (g *gathering) packageFiles(made output.Source, entry *lock.Entry) error {
	for _, p := range entry.Packages {
		b, ok := output.Find(made, packages.Name, packages.FileOutput(p))
		if !ok {
			return fmt.Errorf("package %s-%s is missing", p.Name, p.Version)
		}
		g.addBlob(offline.Package, p.Checksum, b)
	}
	return nil
}

func (g *gathering) kernelArchive(ctx context.Context, k lock.Kernel) error {
	return g.Do(ctx, "kernel source", func(ctx context.Context, t *pipeline.Task) error {
		b, err := kernel.FetchLocked(ctx, kernel.ResolveOptions{Store: g.Store, Fetch: g.Client, Bundle: g.OfflineBundle, Task: t}, k)
		if err == nil {
			g.addBlob(offline.KernelSource, k.SHA256, b)
		}
		return err
	})
}

// modules adds the modules of Tailscale and of the recipe's Go programs.
func (g *gathering) modules(ctx context.Context, entry *lock.Entry) (err error) {
	if g.scratch, err = os.MkdirTemp("", "sov-bundle-"); err != nil {
		return err
	}
	return g.Do(ctx, "modules", func(ctx context.Context, t *pipeline.Task) error {
		paths := map[string]string{}
		if g.Recipe.Tailscale.Enabled {
			files, root, err := tailscale.Modules(ctx, tailscale.Options{Arch: g.Arch, Offline: g.Offline, Bundle: g.OfflineBundle,
				Certificates: g.Recipe.Postgres.TailnetCertificate()}, g.scratch, t)
			if err != nil {
				return err
			}
			for _, name := range files {
				paths[name] = filepath.Join(root, filepath.FromSlash(name))
			}
		}
		if len(g.Recipe.Go) > 0 {
			dir := filepath.Join(g.scratch, "programs")
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			programs, err := goprogram.Modules(ctx, g.GoPrograms(entry), dir, t)
			if err != nil {
				return err
			}
			maps.Copy(paths, programs)
		}
		for _, name := range slices.Sorted(maps.Keys(paths)) {
			path := paths[name]
			b, err := blobOfFile(path)
			if err != nil {
				return err
			}
			g.add(offline.Module, name, b, func() (io.ReadCloser, error) { return os.Open(path) })
		}
		return nil
	})
}

func blobOfFile(path string) (pipeline.Blob, error) {
	content, err := os.ReadFile(path)
	return pipeline.Blob{Digest: pipeline.DigestOf(content), Size: int64(len(content))}, err
}

// write writes and commits the bundle.
func (g *gathering) write(ctx context.Context, tmp *durable.File, t *pipeline.Task) (size int64, err error) {
	for _, i := range g.index.Items {
		t.Grow(i.Size)
	}
	err = offline.Write(tmp, &g.index, func(i offline.Item) (io.ReadCloser, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		body, err := g.open[i]()
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{t.Reader(body), body}, nil
	})
	if err != nil {
		return 0, err
	}
	info, err := tmp.Stat()
	if err == nil {
		err = tmp.Commit()
	}
	if err != nil {
		return 0, fmt.Errorf("write bundle: %w", err)
	}
	return info.Size(), nil
}

// Recipe returns the source of the recipe in a bundle. Unless key is nil, the bundle must have its
// signature.
func Recipe(path string, key dsse.PublicKey) (name string, text []byte, err error) {
	b, err := offline.OpenSigned(path, key)
	if err != nil {
		return "", nil, err
	}
	defer b.Close()
	text, err = b.Bytes(offline.Recipe, b.Recipe)
	return b.Recipe, text, err
}
