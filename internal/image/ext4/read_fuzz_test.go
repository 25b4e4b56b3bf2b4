package ext4

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// seedImages returns the images in testdata, which seeds.sh has made.
func seedImages(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.img.gz")
	if err != nil || len(names) == 0 {
		t.Fatalf("no seeds in testdata: %v", err)
	}
	images := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if images[name], err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return images
}

func TestSeeds(t *testing.T) {
	for name, image := range seedImages(t) {
		f, err := Open(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantClean(t, f)
		if n := walkAll(t, f); n < 66 {
			t.Errorf("%s: found %d files", name, n)
		}
	}
}

// FuzzOpen reads everything in an arbitrary image, which must end without a panic. Fuzz it with
// -fuzzminimizetime=10x: the engine otherwise spends its time on making images shorter.
func FuzzOpen(f *testing.F) {
	for _, image := range seedImages(f) {
		f.Add(image)
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		defer costtest.Text.Watch(t, len(image))()
		readAll(t, image)
	})
}

// patchSize is the size of a patch of FuzzDamage: an offset of three bytes and four bytes to write
// there.
const patchSize = 7

// FuzzDamage reads seed images with patches applied, which reaches more code than FuzzOpen. An
// input is a seed and a list of patches, not a whole image.
func FuzzDamage(f *testing.F) {
	seeds := seedImages(f)
	names := slices.Sorted(maps.Keys(seeds))
	for seed := range names {
		f.Add(uint8(seed), []byte("\x00\x04\x00\x60\x00\x00\x00\x00\x38\x01\x05\x00\x00\x10"))
	}
	f.Fuzz(func(t *testing.T, seed uint8, patches []byte) {
		defer costtest.Text.Watch(t, len(patches))()
		image := bytes.Clone(seeds[names[int(seed)%len(names)]])
		for ; len(patches) >= patchSize; patches = patches[patchSize:] {
			at := int(patches[0]) | int(patches[1])<<8 | int(patches[2])<<16
			copy(image[at%len(image):], patches[3:patchSize])
		}
		readAll(t, image)
	})
}

// readAll reads an image in every way.
func readAll(t *testing.T, image []byte) {
	t.Helper()
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return
	}
	f.Super()
	walkAll(t, f)
	_, treeErr := f.Tree()
	problems, err := f.Check(t.Context())
	if err != nil {
		t.Errorf("Check of an image in memory fails: %v", err)
	}
	if treeErr != nil && len(problems) == 0 {
		t.Errorf("Check finds nothing, yet Tree says %v", treeErr)
	}
}

// walkAll visits every file, reads its beginning, end, attributes and target, and returns the
// number of names. An image cannot have more names than space for entries of twelve bytes.
func walkAll(t testing.TB, f *FS) int {
	t.Helper()
	count := 0
	_ = fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
		if count++; int64(count) > f.size/12 {
			t.Fatalf("%d names in an image of %d bytes", count, f.size)
		}
		if err != nil {
			return nil // the rest may be sound
		}
		if info, err := d.Info(); err == nil {
			info.Sys()
		}
		_, _ = f.Xattrs(name)
		_, _ = f.ReadLink(name)
		file, err := f.Open(name)
		if err != nil {
			return nil
		}
		defer file.Close()
		if at, ok := file.(io.ReaderAt); ok {
			info, err := file.Stat()
			if err != nil {
				t.Errorf("stat of an open file: %v", err)
				return nil
			}
			b := make([]byte, 8192)
			_, _ = at.ReadAt(b, 0)
			_, _ = at.ReadAt(b, max(0, info.Size()-int64(len(b))))
		}
		return nil
	})
	return count
}
