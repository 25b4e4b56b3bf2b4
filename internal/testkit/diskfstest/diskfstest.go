// Package diskfstest makes data disks as in versions of sov without an ext4 writer.
package diskfstest

import (
	"os"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/ext4"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// DataDisk makes a data disk of size bytes at path, with go-diskfs. It has neither metadata
// checksums nor blocks reserved for growth, because go-diskfs writes an unsound resize inode.
func DataDisk(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	_, err = ext4.Create(file.New(f, false), size, 0, 512, &ext4.Params{
		VolumeName:      guestspec.DataLabel,
		SectorsPerBlock: 8,
		InodeRatio:      32768,
		Features: []ext4.FeatureOpt{
			ext4.WithFeatureDirectoryIndices(true),
			ext4.WithFeatureReservedGDTBlocksForExpansion(false),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}
