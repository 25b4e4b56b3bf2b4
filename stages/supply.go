package stages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/base"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/packages"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// lockItem is the name of a bundle's lock.
const lockItem = "sov.lock"

// A BundleReport says what a bundle came to.
type BundleReport struct {
	Path        string         `json:"path"`
	Size        int64          `json:"size"`         // bytes
	Items       map[string]int `json:"items"`        // how many of each kind
	LockWritten bool           `json:"lock_written"` // there was no entry, and one was resolved
}

// WriteBundle writes one file with everything that a build of the recipe's lock
// entry reads from outside: image, packages, the kernel's source, the modules of
// Tailscale, the recipe and the lock. What the cache does not have is fetched
// now. The file appears when it is complete; the same lock gives the same file.
func WriteBundle(ctx context.Context, o Options, path string) (*BundleReport, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return nil, err
	}
	defer b.supplies.Close()
	release, err := b.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	entry, written, err := b.lockEntry(ctx)
	if err != nil {
		return nil, err
	}
	g := &gathering{builder: b, open: map[offline.Item]func() (io.ReadCloser, error){}}
	defer func() { os.RemoveAll(g.scratch) }()
	if err := g.gather(ctx, entry); err != nil {
		return nil, fmt.Errorf("gather what recipe %s for %s is made from: %w", b.Recipe.Name, b.Arch, err)
	}
	report := &BundleReport{Path: path, Items: map[string]int{}, LockWritten: written}
	for _, i := range g.index.Items {
		report.Items[string(i.Kind)]++
	}
	err = b.engine.Do(ctx, "write bundle", func(ctx context.Context, t *pipeline.Task) error {
		report.Size, err = g.write(ctx, path, t)
		return err
	})
	return report, err
}

// A gathering collects the items of a bundle.
type gathering struct {
	*builder
	index   offline.Index
	open    map[offline.Item]func() (io.ReadCloser, error)
	scratch string // folder that is removed at the end
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
	g.add(kind, name, b, func() (io.ReadCloser, error) { return g.store.Open(b) })
}

func (g *gathering) gather(ctx context.Context, entry *lock.Entry) error {
	g.index.Format, g.index.Recipe, g.index.Arch = offline.Format, g.Recipe.Name, g.Arch
	var file lock.File
	file.Put(*entry)
	g.addBytes(offline.Recipe, g.Recipe.Name, g.RecipeText)
	g.addBytes(offline.Lock, lockItem, file.Encode())
	result, err := g.buildBefore(ctx, g.base(entry), g.packages(entry))
	if err != nil {
		return err
	}
	made := output.Of(result, g.store)
	if err := g.image(made, entry); err != nil {
		return err
	}
	if err := g.packageFiles(made, entry); err != nil {
		return err
	}
	if entry.Kernel != nil && g.Kernel == "" {
		if err := g.kernelArchive(ctx, *entry.Kernel); err != nil {
			return err
		}
	}
	if g.Recipe.Tailscale.Enabled {
		return g.modules(ctx)
	}
	return nil
}

func (g *gathering) image(made output.Source, entry *lock.Entry) error {
	var about base.Image
	if err := output.ReadJSON(made, base.Name, base.ImageFile, &about); err != nil {
		return err
	}
	if b, ok := output.Find(made, base.Name, base.ManifestFile); ok { // docker save's have none
		g.addBlob(offline.ImageManifest, entry.Image.Digest, b)
	}
	if b, ok := output.Find(made, base.Name, base.ConfigFile); ok {
		g.addBlob(offline.ImageConfig, entry.Image.Digest, b)
	}
	seen := map[string]bool{}
	for i, id := range about.DiffIDs {
		b, ok := output.Find(made, base.Name, base.LayerFile(i))
		if !ok {
			return fmt.Errorf("layer %s of the image is missing", id)
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
	return g.engine.Do(ctx, "kernel source", func(ctx context.Context, t *pipeline.Task) error {
		b, err := kernel.FetchLocked(ctx, kernel.ResolveOptions{Store: g.store, Fetch: g.client, Bundle: g.supplies, Task: t}, k)
		if err == nil {
			g.addBlob(offline.KernelSource, k.SHA256, b)
		}
		return err
	})
}

func (g *gathering) modules(ctx context.Context) (err error) {
	if g.scratch, err = os.MkdirTemp("", "sov-bundle-"); err != nil {
		return err
	}
	return g.engine.Do(ctx, "modules", func(ctx context.Context, t *pipeline.Task) error {
		files, root, err := tailscale.Modules(ctx, tailscale.Options{Arch: g.Arch, Offline: g.Offline, Bundle: g.supplies}, g.scratch, t)
		if err != nil {
			return err
		}
		for _, name := range files {
			path := filepath.Join(root, filepath.FromSlash(name))
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

// write writes the file beside path and gives it its name when it is complete.
func (g *gathering) write(ctx context.Context, path string, t *pipeline.Task) (size int64, err error) {
	for _, i := range g.index.Items {
		t.Grow(i.Size)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-")
	if err != nil {
		return 0, fmt.Errorf("write bundle: %w", err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
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
	if err == nil {
		err = errors.Join(tmp.Chmod(0o644), tmp.Sync())
	}
	if err != nil {
		return 0, err
	}
	info, err := tmp.Stat()
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return 0, fmt.Errorf("write bundle: %w", err)
	}
	return info.Size(), nil
}

// openSupplies opens the bundle that a build takes things from. If it was made
// from this very recipe, it stands for the flags that it was made with, too: an
// image, or repositories, in place of the recipe's.
func (b *builder) openSupplies() (err error) {
	if b.Bundle == "" {
		return nil
	}
	if b.supplies, err = offline.Open(b.Bundle); err != nil {
		return err
	}
	entry, err := b.bundleEntry()
	if err != nil || entry == nil {
		return err
	}
	text, err := b.supplies.Bytes(offline.Recipe, b.Recipe.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(text, b.RecipeText) {
		return nil
	}
	if b.Image == "" {
		b.Image = entry.Inputs.Image
	}
	if len(b.Repositories) == 0 {
		b.Repositories = entry.Inputs.Repositories
	}
	if b.KernelSource == "" {
		b.KernelSource = entry.Inputs.Kernel
	}
	return nil
}

// bundleEntry returns the bundle's lock entry for the recipe, nil where it has
// none.
func (b *builder) bundleEntry() (*lock.Entry, error) {
	text, err := b.supplies.Bytes(offline.Lock, lockItem)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := lock.Parse(b.Bundle+": "+lockItem, text)
	if err != nil {
		return nil, err
	}
	entry, _ := file.Find(b.Recipe.Name, b.Arch)
	return entry, nil
}

// BundleRecipe returns the source of the recipe in a bundle.
func BundleRecipe(path string) (name string, text []byte, err error) {
	b, err := offline.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer b.Close()
	text, err = b.Bytes(offline.Recipe, b.Recipe)
	return b.Recipe, text, err
}
