package guest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	diskfsfile "github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestReadersAgree reads the root file system of the sql recipe with every available reader. This
// computer's kernel, debugfs and go-diskfs must read the same as our reader, and e2fsck must report
// no error.
func TestReadersAgree(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"arm64", "amd64"} {
		t.Run(arch, func(t *testing.T) {
			path := filepath.Join(sovtest.Artifact(t, arch), "rootfs.img")
			if out, err := exec.Command("e2fsck", "-fn", path).CombinedOutput(); err != nil {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
			image, err := ext4.OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer image.Close()
			stats, sums := imageStats(t, image), imageSums(t, image)

			mounted, _ := mounttest.Loop(t, path, "ro")
			compareMount(t, mounted, stats, sums)

			// debugfs copies a file with several names several times.
			dumped := t.TempDir()
			if out, err := exec.Command("debugfs", "-R", "rdump / "+dumped, path).CombinedOutput(); err != nil {
				t.Fatalf("debugfs: %v\n%s", err, out)
			}
			compareSums(t, "debugfs", sums, func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dumped, name)) })

			witness := openWithDiskfs(t, path)
			compareSums(t, "go-diskfs", sums, func(name string) (io.ReadCloser, error) {
				return witness.Open(strings.TrimPrefix(name, "/"))
			})
			t.Logf("%d entries, %d files", len(stats), len(sums))
		})
	}
}

// compareMount compares what this computer's kernel reads from a mounted image with the entries of
// the image.
func compareMount(t *testing.T, dir string, stats, sums map[string]string) {
	t.Helper()
	const who = "the kernel"
	found := 0
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		found++
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		var s unix.Stat_t
		if err := unix.Lstat(path, &s); err != nil {
			return err
		}
		shown := name
		if s.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			shown = "'" + name + "' -> '" + target + "'"
		}
		got := fmt.Sprintf("%x %d %d %d %d %d %x %x %s", s.Mode, s.Uid, s.Gid, s.Size, s.Nlink, s.Mtim.Sec,
			unix.Major(s.Rdev), unix.Minor(s.Rdev), shown)
		if got != stats[name] {
			t.Errorf("%s says of %s %q, the image holds %q", who, name, got, stats[name])
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", who, err)
	}
	if found != len(stats) {
		t.Errorf("%s finds %d entries of %d", who, found, len(stats))
	}
	compareSums(t, who, sums, func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) })
}

// compareSums reads every file with open and compares its checksum.
func compareSums(t *testing.T, who string, sums map[string]string, open func(name string) (io.ReadCloser, error)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		file, err := open(name)
		if err != nil {
			t.Errorf("%s: open %s: %v", who, name, err)
			continue
		}
		hash := sha256.New()
		_, err = io.Copy(hash, file)
		file.Close()
		if got := fmt.Sprintf("%x", hash.Sum(nil)); err != nil || got != sums[name] {
			t.Errorf("%s reads other bytes of %s, %v", who, name, err)
		}
	}
}

// openWithDiskfs opens an image without holes with a reader that shares no code with ours.
func openWithDiskfs(t *testing.T, path string) *diskfs.FileSystem {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	filesystem, err := diskfs.Read(diskfsfile.New(file, true), info.Size(), 0, 512)
	if err != nil {
		t.Fatal(err)
	}
	return filesystem
}
