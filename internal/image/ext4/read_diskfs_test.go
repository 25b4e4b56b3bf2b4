package ext4

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	storage "github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"
)

// TestReadDiskfs reads an image of go-diskfs, another writer of the format.
func TestReadDiskfs(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	out, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	const size = 200 << 20
	if err := out.Truncate(size); err != nil {
		t.Fatal(err)
	}
	fs, err := diskfs.Create(storage.New(out, false), size, 0, 512, &diskfs.Params{
		VolumeName: "another",
		// Its resize inode is unsound; see TestCheckResize.
		Features: []diskfs.FeatureOpt{diskfs.WithFeatureReservedGDTBlocksForExpansion(false)},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"dir/empty": nil, "dir/small": []byte("small"), "dir/large": pattern(5 << 20)}
	for i := range 200 {
		want[fmt.Sprintf("dir/many/entry %d", i)] = []byte{byte(i)}
	}
	if err := fs.Mkdir("dir/many"); err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if len(content) > 0 {
			if _, err := f.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := fs.Symlink("dir/small", "link"); err != nil {
		t.Fatal(err)
	}

	f := open(t, image)
	if label := f.Super().Label; label != "another" {
		t.Errorf("label %q", label)
	}
	want["link"] = want["dir/small"]
	for name, content := range want {
		got, err := f.ReadFile(name)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes of %d, or wrong ones; %v", name, len(got), len(content), err)
		}
	}
	wantClean(t, f)
}
