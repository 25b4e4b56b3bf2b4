package guesttest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/datadisk"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/diskfstest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// writerRecipe is a machine with one service, which writes files to the data disk, and syncs and
// reports each. Each boot writes to a new folder. A file contains its number repeatedly.
const writerRecipe = `name: small
version: "1"
base:
  image: docker.io/library/alpine:3.22
packages:
  repositories: [https://dl-cdn.alpinelinux.org/alpine/v3.22/main]
  install: [e2fsprogs]
  scripts: ["*"]
vm:
  memory: 512MiB
  cpus: 1
  data: 256MiB
services:
  - name: writer
    command:
      - /bin/sh
      - -c
      - |
        boot=$(cat /proc/sys/kernel/random/boot_id)
        i=0
        while i=$((i + 1)); do
          folder=$boot/$((i % 40))
          mkdir -p /data/written/$folder
          yes $i | head -n 3000 >/data/written/$folder/$i && fsync /data/written/$folder/$i && echo synced $folder/$i
        done
`

// synced matches the writer's report of a file.
var synced = regexp.MustCompile(`(?m) writer: synced (\S+)\r?$`)

// A Growth is a data disk and the sizes, in bytes, to which a test enlarges it while the machine
// runs and writes to it.
type Growth struct {
	Name  string
	Make  func(t *testing.T, path string)
	Steps []int64
	// Midway also cuts the power as soon as the file system has begun to grow. The growth must
	// continue at the next start.
	Midway bool
	// ResizeInode is set if the blocks reserved for descriptors suffice. Otherwise the kernel
	// changes the layout.
	ResizeInode bool
}

// GrowUnderWriter enlarges data disks of running machines that write to them, and then cuts the
// power. The file systems must be sound and have every synced file.
func GrowUnderWriter(t *testing.T, growths []Growth) {
	t.Helper()
	artifact := BuildWriter(t)
	for _, growth := range growths {
		t.Run(growth.Name, func(t *testing.T) {
			t.Parallel()
			growUnderWriter(t, artifact, growth)
		})
	}
}

// writer holds the folder of the artifact that BuildWriter has built in this process.
var writer struct {
	sync.Mutex
	artifact string
}

// BuildWriter builds, once, a small machine named small, whose only service writes to its data
// disk. It returns the artifact's folder.
func BuildWriter(t *testing.T) string {
	t.Helper()
	writer.Lock()
	defer writer.Unlock()
	if writer.artifact == "" {
		dir := filepath.Join(sovtest.Shared, "writer")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		writer.artifact = buildWriter(t, dir, nil)
	}
	return writer.artifact
}

// BuildWriterOn builds the machine of BuildWriter with additional flags of sov build. replace has
// pairs of old and new texts for the recipe.
func BuildWriterOn(t *testing.T, flags []string, replace ...string) string {
	t.Helper()
	return buildWriter(t, t.TempDir(), flags, replace...)
}

func buildWriter(t *testing.T, dir string, flags []string, replace ...string) string {
	t.Helper()
	kernel := filepath.Join(sovtest.Artifact(t, "arm64"), artifact.KernelFile)
	recipe := strings.NewReplacer(replace...).Replace(writerRecipe)
	if o := sovtest.SmallBuild(t, dir, func(string) string { return recipe }, append(flags, "--kernel", kernel)...); o.Status != 0 {
		t.Fatal(o)
	}
	return filepath.Join(dir, "out/small/arm64")
}

func growUnderWriter(t *testing.T, artifact string, growth Growth) {
	t.Helper()
	options := localvm.Options{Artifact: artifact, State: filepath.Join(t.TempDir(), "state")}
	if err := os.Mkdir(options.State, 0o700); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(options.State, "data.img")
	growth.Make(t, image)
	g := Boot(t, options)
	var written []string
	cut := func() {
		g.CutPower(t)
		written = append(written, g.synced(t)...)
		Fsck(t, image)
	}
	grown := 0 // since the last boot
	for _, to := range growth.Steps {
		g.awaitSynced(t, 1)
		from := fileSystemSize(t, g)
		if err := g.GrowData(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		grown++
		g.awaitGrowth(t, from, grown)
		began, first := time.Now(), len(g.synced(t))
		if growth.Midway && g.enlarged(t) < grown {
			t.Logf("the power is cut at %d MiB of %d MiB", fileSystemSize(t, g)>>20, to>>20)
			cut()
			g = Boot(t, options)
			began, first, grown = time.Now(), 0, 1
		}
		for size := from; g.enlarged(t) < grown; {
			size = g.awaitGrowth(t, size, grown)
		}
		last := len(g.synced(t))
		t.Logf("from %d MiB to %d MiB in %v, %d files synced meanwhile", from>>20, to>>20, time.Since(began).Round(time.Millisecond), last-first)
		g.awaitSynced(t, last+20)
	}
	cut()
	Replay(t, image)
	wantWritten(t, image, growth, written)
}

// awaitGrowth waits until the file system has more than the given bytes, or the guest has enlarged
// it the given number of times since its start. It returns the size.
func (g *Guest) awaitGrowth(t *testing.T, than int64, times int) (size int64) {
	t.Helper()
	sovtest.Await(t, sovtest.WaitLimit, fmt.Sprintf("a file system of more than %d bytes", than), func() bool {
		size = fileSystemSize(t, g)
		return size > than || g.enlarged(t) >= times
	})
	return size
}

// enlarged returns how many times the guest has reported that it enlarged its file system.
func (g *Guest) enlarged(t *testing.T) int {
	t.Helper()
	return strings.Count(g.Log(t), "init: data disk enlarged")
}

// synced returns the paths of the synced files.
func (g *Guest) synced(t *testing.T) (paths []string) {
	t.Helper()
	for _, match := range synced.FindAllStringSubmatch(g.Log(t), -1) {
		paths = append(paths, match[1])
	}
	return paths
}

func (g *Guest) awaitSynced(t *testing.T, files int) {
	t.Helper()
	sovtest.Await(t, sovtest.WaitLimit, fmt.Sprintf("%d synced files", files), func() bool { return len(g.synced(t)) >= files })
}

func fileSystemSize(t *testing.T, g *Guest) int64 {
	t.Helper()
	status, err := g.Status(t.Context())
	if err != nil || len(status.Problems) > 0 {
		t.Fatalf("%v, %q\nconsole:\n%s", err, status.Problems, g.Log(t))
	}
	return status.Data.Size
}

// wantWritten fails the test unless the file system is sound and has the synced files.
func wantWritten(t *testing.T, image string, growth Growth, paths []string) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := growth.Steps[len(growth.Steps)-1]
	fs, err := ext4.Open(f, size)
	if err != nil {
		t.Fatal(err)
	}
	// The kernel omits a last block group that is too small.
	have := int64(fs.Super().Blocks) * int64(fs.Super().BlockSize)
	if have < size-128<<20 {
		t.Errorf("the file system has %d bytes of %d", have, size)
	}
	problems, err := fs.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("check: %v, %v", problems, err)
	}
	if got := slices.Contains(fs.Super().Features, "resize_inode"); got != growth.ResizeInode {
		t.Errorf("features: %q", fs.Super().Features)
	}
	wantFiles(t, fs, paths)
	t.Logf("%d files were synced, a file system of %d MiB, failed: %t", len(paths), have>>20, t.Failed())
}

// wantFiles fails the test unless the file system has the complete synced files.
func wantFiles(t *testing.T, fs *ext4.FS, paths []string) {
	t.Helper()
	for _, path := range paths {
		want := strings.Repeat(filepath.Base(path)+"\n", 3000)
		if got, err := fs.ReadFile("written/" + path); err != nil || string(got) != want {
			t.Errorf("%s, which was synced, comes back as %d bytes of %d, %v", path, len(got), len(want), err)
		}
	}
}

// Growths returns a disk enlarged to 64 times its size, a disk of an earlier version, and a disk
// enlarged in steps that end within a block group.
func Growths() []Growth {
	return []Growth{
		{Name: "to 64 times its size", Make: made(256 << 20), Steps: []int64{16 << 30}, ResizeInode: true},
		{Name: "of an earlier version", Make: earlier(256 << 20), Steps: []int64{16 << 30}},
		{Name: "in steps, cut groups", Make: laidOut(300<<20+12345, 64), Steps: []int64{600<<20 + 54321, 5<<30 + 77<<20 + 4096}, ResizeInode: true},
	}
}

// LargeGrowths returns the usual disk, a disk of 64 GiB, a disk of an earlier version, and a disk
// that grows beyond the reserved blocks.
func LargeGrowths() []Growth {
	return []Growth{
		{Name: "8 GiB to 512 GiB", Make: made(8 << 30), Steps: []int64{512 << 30}, Midway: true, ResizeInode: true},
		{Name: "64 GiB to 4 TiB", Make: made(64 << 30), Steps: []int64{4 << 40}, ResizeInode: true},
		{Name: "of an earlier version, 8 GiB to 512 GiB", Make: earlier(8 << 30), Steps: []int64{512 << 30}, Midway: true},
		{Name: "beyond the reserved", Make: laidOut(1<<30, 64), Steps: []int64{200 << 30}, Midway: true},
	}
}

// earlier returns a function that makes a disk as earlier versions did.
func earlier(size int64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		diskfstest.DataDisk(t, path, size)
	}
}

// made returns a function that makes a disk as the product does.
func made(size int64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := datadisk.Create(t.Context(), path, size); err != nil {
			t.Fatal(err)
		}
	}
}

// laidOut returns a function that makes a disk of any size, with blocks reserved to grow to factor
// times the size.
func laidOut(size, factor int64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		o := ext4.Options{Size: size, Journal: ext4.JournalSize(size), Inodes: size / 32768, GrowTo: factor * size, Label: guestspec.DataLabel}
		if _, err := ext4.Write(t.Context(), f, tree.New(), o); err != nil {
			t.Fatal(err)
		}
	}
}
