//go:build linux

package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	diskfsfile "github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/ext4"
	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// growing returns options of a file system of size bytes that can grow to 64 times its size.
func growing(size int64) Options {
	return Options{
		Label: "growing", UUID: [16]byte{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16},
		Size: size, Journal: JournalSize(size), Inodes: size / 32768, GrowTo: 64 * size,
	}
}

// used returns the number of bytes that a file takes on disk.
func used(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// growingSizes have one group and many, incomplete last groups, more than one block of group
// descriptors, and more descriptors than the reserved blocks hold.
var growingSizes = []int64{
	64 << 20, 127<<20 + 4096, 128 << 20, 130<<20 + 12345, 511<<20 + 777, 1 << 30, 3<<30 + 5<<20,
	8 << 30, 33<<30 + 1<<20, 64 << 30, 300<<30 + 4096, 1 << 40, 2 << 40,
}

func TestGrowing(t *testing.T) {
	needTools(t, "e2fsck", "dumpe2fs")
	for _, size := range growingSizes {
		t.Run(fmt.Sprintf("%d MiB", size>>20), func(t *testing.T) {
			image, stats := writeImage(t, tree.New(), growing(size))
			if n := used(t, image); n > 1<<20+size/16384 && n > 5<<20 {
				t.Errorf("takes %d bytes", n)
			}
			checkByE2fsck(t, image)
			wantClean(t, open(t, image))
			if stats.FreeBytes < size*9/10-JournalSize(size) {
				t.Errorf("%d of %d bytes are free", stats.FreeBytes, size)
			}
			wantHeader(t, image, size)
		})
	}
}

// wantHeader compares dumpe2fs's output with the values that mke2fs would write.
func wantHeader(t *testing.T, image string, size int64) {
	t.Helper()
	header := command(t, "dumpe2fs", "-h", image)
	field := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `:\s+(.*)$`).FindStringSubmatch(header)
		if m == nil {
			return ""
		}
		return m[1]
	}
	features := strings.Fields(field("Filesystem features"))
	slices.Sort(features)
	want := []string{"64bit", "dir_index", "dir_nlink", "ext_attr", "extent", "extra_isize", "filetype", "flex_bg", "has_journal",
		"huge_file", "large_file", "metadata_csum", "resize_inode", "sparse_super"}
	if !slices.Equal(features, want) {
		t.Errorf("features %q\nwant     %q", features, want)
	}
	groups := divUp(uint64(64*size)/4096, 32768)
	descriptors := divUp(groups*64, 4096)
	have := divUp(divUp(uint64(size)/4096, 32768)*64, 4096)
	journal := fmt.Sprintf("%dM", JournalSize(size)>>20)
	if journal == "4M" {
		journal = "4096k"
	}
	for name, want := range map[string]string{
		"Filesystem volume name": "growing",
		"Filesystem UUID":        "01020304-0506-4708-890a-0b0c0d0e0f10",
		"Directory Hash Seed":    "01020304-0506-4708-890a-0b0c0d0e0f10",
		"Errors behavior":        "Remount read-only",
		"Checksum type":          "crc32c",
		"Journal inode":          "8",
		"Reserved GDT blocks":    fmt.Sprint(min(1024, max(1, descriptors-have))),
		"Total journal size":     journal,
		"Maximum mount count":    "-1",
		"Reserved block count":   "0",
		"Filesystem state":       "clean",
		"First inode":            "11",
		"Inode size":             "256",
		"Flex block group size":  "16",
		"Default directory hash": "half_md4",
	} {
		if got := field(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestGrowingSmallBlocks tests other block sizes, which change the size of groups and of pointer
// blocks.
func TestGrowingSmallBlocks(t *testing.T) {
	for _, blockSize := range []int{1024, 2048, 65536} {
		t.Run(fmt.Sprint(blockSize), func(t *testing.T) {
			o := growing(700<<20 + 4096)
			o.BlockSize, o.Journal = blockSize, max(o.Journal, int64(1024*blockSize))
			image, _ := writeImage(t, tree.New(), o)
			checkByE2fsck(t, image)
			wantClean(t, open(t, image))
		})
	}
}

// TestGrowingWithContent writes every kind of file to a growing file system, and directories that
// are hashed with the file system's seed.
func TestGrowingWithContent(t *testing.T) {
	for _, o := range []Options{growing(400 << 20), {Size: 400 << 20, GrowTo: 8 << 30, Journal: 4 << 20}} {
		want := everyKind(t)
		b := corpusBuilder{t, want}
		for i := range 3000 {
			b.file(fmt.Sprintf("hashed/%d", i), tree.Content{})
		}
		image, stats := writeImage(t, want, o)
		checkByE2fsck(t, image)
		compareByReader(t, image, want)
		compareByKernel(t, image, want)
		checkStats(t, image, stats, o)
	}
}

func TestGrowingIsReproducible(t *testing.T) {
	first, _ := writeImage(t, tree.New(), growing(300<<20))
	second, _ := writeImage(t, tree.New(), growing(300<<20))
	if a, b := hashFile(t, first), hashFile(t, second); a != b {
		t.Errorf("two images of the same options differ: %x, %x", a, b)
	}
}

func TestGrowingDiskfsReads(t *testing.T) {
	image, stats := writeImage(t, tree.New(), growing(1<<30))
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fs, err := diskfs.Read(diskfsfile.New(f, true), stats.Size, 0, 512)
	if err != nil {
		t.Fatal(err)
	}
	if fs.Label() != "growing" {
		t.Errorf("label %q", fs.Label())
	}
	entries, err := fs.ReadDir(".")
	if err != nil || !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == lostAndFoundName }) {
		t.Errorf("root holds %v, %v", entries, err)
	}
}

// writer writes numbered files until that fails, and syncs each before the next. check then
// compares them.
type writer struct {
	dir  string
	done chan error
	n    atomic.Int64 // files that are synced
}

func startWriter(dir string) *writer {
	w := &writer{dir: dir, done: make(chan error, 1)}
	go func() {
		for ; ; w.n.Add(1) {
			if err := writeSynced(w.path(w.n.Load()), w.content(w.n.Load())); err != nil {
				w.done <- err
				return
			}
		}
	}()
	return w
}

// await waits until n files are synced.
func (w *writer) await(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); w.n.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are synced after a minute, want %d", w.n.Load(), n)
		}
	}
}

func writeSynced(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

func (w *writer) path(i int64) string {
	return filepath.Join(w.dir, fmt.Sprintf("directory %d", i%40), fmt.Sprintf("file %d", i))
}

func (w *writer) content(i int64) []byte { return bytes.Repeat([]byte(fmt.Sprint(i, "\n")), 3000) }

// check compares the first n written files, which are now below dir.
func (w *writer) check(t *testing.T, dir string, n int64) {
	t.Helper()
	w.dir = dir
	for i := range n {
		if got, err := os.ReadFile(w.path(i)); err != nil || !bytes.Equal(got, w.content(i)) {
			t.Fatalf("file %d of %d comes back as %d bytes, %v", i, n, len(got), err)
		}
	}
}

// checkByE2fsckAfterUse expects a used file system to be clean. e2fsck's numbers are not compared,
// because usage varies.
func checkByE2fsckAfterUse(t *testing.T, image string) {
	t.Helper()
	if out := command(t, "e2fsck", "-fn", image); strings.Contains(out, "? no") {
		t.Errorf("e2fsck has something to say:\n%s", out)
	}
}

// ioctlShutdown is EXT4_IOC_SHUTDOWN (fs/ext4/ext4.h): _IOR('X', 125, __u32). With noLogFlush the
// file system ends as in a power failure: the kernel does not write the journal either.
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2 // EXT4_GOING_FLAGS_NOLOGFLUSH
)

func shutdown(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Fatalf("shut down the file system at %s: %v", dir, errno)
	}
}

// TestGrowingReplays cuts the kernel off while it writes. After a replay of the journal every file
// that was synced before must exist.
func TestGrowingReplays(t *testing.T) {
	needTools(t, "e2fsck")
	image, _ := writeImage(t, tree.New(), growing(256<<20))
	for round := range 5 {
		dir, unmount := mounttest.Loop(t, image, "")
		below := fmt.Sprintf("round %d", round)
		w := startWriter(filepath.Join(dir, below))
		w.await(t, int64(20+30*round))
		// A sync during the cut may return success: jbd2 takes the aborted transaction for a
		// finished one.
		synced := w.n.Load()
		shutdown(t, dir)
		if err := <-w.done; err == nil {
			t.Error("writing goes on after the cut")
		}
		unmount()
		if !open(t, image).Super().NeedsRecovery {
			t.Error("there is nothing to replay")
		}
		out, err := exec.Command("e2fsck", "-fp", image).CombinedOutput()
		if exitCode(err) > 1 {
			t.Fatalf("e2fsck -fp: %v\n%s", err, out)
		}
		checkByE2fsckAfterUse(t, image)
		wantClean(t, open(t, image))
		dir, unmount = mounttest.Loop(t, image, "ro")
		w.check(t, filepath.Join(dir, below), synced)
		unmount()
	}
}

func exitCode(err error) int {
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// TestDevice makes file systems on a block device that contains random data.
func TestDevice(t *testing.T) {
	needRoot(t)
	needTools(t, "e2fsck")
	const size = 300<<20 + 5*4096
	noise := filepath.Join(t.TempDir(), "noise")
	if err := os.WriteFile(noise, randomBytes(1, size), 0o600); err != nil {
		t.Fatal(err)
	}
	device, _ := mounttest.Attach(t, noise, false)
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, grow := range []int64{0, 64 * size} {
		want := everyKind(t)
		o := growing(size)
		o.Device, o.GrowTo = true, grow
		if _, err := Write(context.Background(), f, want, o); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		checkByE2fsck(t, device)
		fs, err := Open(f, size)
		if err != nil {
			t.Fatal(err)
		}
		wantClean(t, fs)
		got := make([]byte, signatureArea)
		if _, err := f.ReadAt(got, size-signatureArea); err != nil || !bytes.Equal(got, make([]byte, signatureArea)) {
			t.Errorf("the end of the device is not cleared, %v", err)
		}
		if b := readJournal(t, fs); !bytes.Equal(b[4096:], make([]byte, len(b)-4096)) {
			t.Error("the journal holds what was on the device before")
		}
		useDevice(t, device, want)
	}
}

func readJournal(t *testing.T, f *FS) []byte {
	t.Helper()
	nd, err := f.node(inodeJournal)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, nd.Size)
	if _, err := newContent(nd).ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// useDevice mounts a device, creates files until more of the inode tables are used, and checks it.
func useDevice(t *testing.T, device string, want *tree.Tree) {
	t.Helper()
	dir, unmount := mounttest.Device(t, device, "")
	compareMount(want, dir, t.Errorf)
	for i := range 3000 {
		name := filepath.Join(dir, fmt.Sprintf("d%d", i%30), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, randomBytes(uint64(i), 5000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unmount()
	checkByE2fsckAfterUse(t, device)
}

// TestCheckResize checks the resize inodes of mke2fs, which are sound, those of go-diskfs, which
// are not, and damaged ones. e2fsck checks only the first quarter of the reserved blocks
// (e2fsck/super.c, check_resize_inode). The kernel checks each when it uses it.
func TestCheckResize(t *testing.T) {
	needTools(t, "mke2fs")
	for _, blockSize := range []string{"1024", "4096"} {
		wantClean(t, open(t, mke2fs(t, "1500M", "-b", blockSize, "-O", "64bit,metadata_csum")))
	}
	for _, size := range []int64{300 << 20} {
		image := filepath.Join(t.TempDir(), "image")
		out, err := os.Create(image)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if err := out.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := diskfs.Create(diskfsfile.New(out, false), size, 0, 512, &diskfs.Params{
			SectorsPerBlock: 8,
			Features:        []diskfs.FeatureOpt{diskfs.WithFeatureReservedGDTBlocksForExpansion(true)},
		}); err != nil {
			t.Fatal(err)
		}
		if !hasProblem(t, image, "inode 7") {
			t.Errorf("go-diskfs, %d MiB: no problem with inode 7 is found", size>>20)
		}
	}

	for name, damage := range map[string]func(f *FS) int64{ // returns the offset of the pointer to change
		"given as block":              func(f *FS) int64 { return resizeMap(t, f) + 4 },
		"the copy of reserved":        func(f *FS) int64 { return f.blockOffset(3) + 4 },
		"reserved descriptor block 5": func(f *FS) int64 { return resizeMap(t, f) + 4*5 },
	} {
		image, _ := writeImage(t, tree.New(), growing(1<<30))
		at := damage(open(t, image))
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xFF}, at); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if !hasProblem(t, image, name) {
			t.Errorf("no problem with %q is found", name)
		}
	}
}

// resizeMap returns the offset of the resize inode's pointer block.
func resizeMap(t *testing.T, f *FS) int64 {
	t.Helper()
	nd, err := f.node(inodeResize)
	if err != nil {
		t.Fatal(err)
	}
	return f.blockOffset(uint64(le.Uint32(nd.Block[resizeDouble*pointerSize:])))
}

// hasProblem reports whether Check finds a problem that contains what.
func hasProblem(t *testing.T, image, what string) bool {
	t.Helper()
	problems, err := open(t, image).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(problems, func(f finding.Finding) bool { return strings.Contains(f.String(), what) })
}
