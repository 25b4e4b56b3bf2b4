package verity

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// file returns a file with this number of data blocks, each with other content.
func file(t testing.TB, blocks int64) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "image"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for i := range blocks {
		if _, err := f.WriteAt([]byte("block "+strconv.FormatInt(i, 10)), i*BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(blocks * BlockSize); err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t testing.TB, f *os.File, blocks int64) Digest {
	t.Helper()
	root, err := Write(t.Context(), f, blocks*BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil || info.Size() != FileSize(blocks*BlockSize) {
		t.Fatalf("%d blocks: the file has %d bytes, want %d: %v", blocks, info.Size(), FileSize(blocks*BlockSize), err)
	}
	return root
}

// sizes need trees of zero to three levels, with full blocks and partly filled ones.
var sizes = []int64{1, 2, 127, 128, 129, 256, 128*128 + 1}

// TestVeritysetup compares the tree with veritysetup's, and verifies ours with veritysetup and the
// root hash.
func TestVeritysetup(t *testing.T) {
	program, err := exec.LookPath("veritysetup")
	if err != nil {
		t.Skip("veritysetup is not installed: apt-get install cryptsetup-bin")
	}
	for _, blocks := range sizes {
		f := file(t, blocks)
		theirs := filepath.Join(t.TempDir(), "theirs")
		out, err := exec.Command(program, "format", "--salt=-", "--uuid=00000000-0000-0000-0000-000000000000", f.Name(), theirs).CombinedOutput()
		if err != nil {
			t.Fatalf("veritysetup format: %v\n%s", err, out)
		}
		root := write(t, f, blocks)
		if !strings.Contains(string(out), root.String()) {
			t.Errorf("%d blocks: our root is %s, veritysetup says\n%s", blocks, root, out)
		}
		want, err := os.ReadFile(theirs)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := io.ReadAll(io.NewSectionReader(f, blocks*BlockSize, int64(len(want))+1))
		if err != nil || !bytes.Equal(tree, want) {
			t.Errorf("%d blocks: our superblock and tree of %d bytes are not veritysetup's of %d: %v", blocks, len(tree), len(want), err)
		}
		verify := func() error {
			return exec.Command(program, "verify", f.Name(), f.Name(), root.String(), "--hash-offset", strconv.FormatInt(blocks*BlockSize, 10)).Run()
		}
		if err := verify(); err != nil {
			t.Errorf("%d blocks: veritysetup verify: %v", blocks, err)
		}
		flip(t, f, (blocks-1)*BlockSize+7)
		if err := verify(); err == nil {
			t.Errorf("%d blocks: veritysetup verifies a flipped bit", blocks)
		}
	}
}

func flip(t testing.TB, f *os.File, at int64) {
	t.Helper()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// TestCheck expects Check to find each flipped bit and report its block.
func TestCheck(t *testing.T) {
	for _, blocks := range sizes {
		f := file(t, blocks)
		root := write(t, f, blocks)
		if err := Check(t.Context(), f, blocks*BlockSize, root); err != nil {
			t.Fatalf("%d blocks, whole: %v", blocks, err)
		}
		end := FileSize(blocks * BlockSize)
		places := []int64{0, blocks*BlockSize - 1, blocks * BlockSize, blocks*BlockSize + 80, end - 1, end - BlockSize}
		if blocks > perBlock*perBlock { // 64 MiB
			places = places[1:2]
		}
		for _, at := range places {
			flip(t, f, at)
			err := Check(t.Context(), f, blocks*BlockSize, root)
			damage := new(DamageError)
			want := DamageError{First: at / BlockSize, Blocks: 1}
			if blocks == 1 && at < BlockSize { // only the root hash covers it
				want.First = -1
			}
			if !errors.As(err, &damage) || *damage != want {
				t.Errorf("%d blocks, a bit at %d is flipped: %v, want %v", blocks, at, err, &want)
			}
			flip(t, f, at)
		}
	}
	f := file(t, 300)
	root := write(t, f, 300)
	flip(t, f, 5*BlockSize)
	flip(t, f, 200*BlockSize)
	if err := Check(t.Context(), f, 300*BlockSize, root); err == nil || err.Error() != "block 5 and 1 others" {
		t.Errorf("two blocks: %v", err)
	}
	other := write(t, f, 300)
	if err := Check(t.Context(), f, 300*BlockSize, root); other == root || err == nil || err.Error() != "every block belongs to another root hash" {
		t.Errorf("another tree: %v", err)
	}
	if err := f.Truncate(FileSize(300*BlockSize) - 1); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), f, 300*BlockSize, other); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that is too short: %v", err)
	}
	for _, size := range []int64{-BlockSize, 0, 1, BlockSize + 512, 1<<60 + BlockSize} {
		if _, err := Write(t.Context(), f, size); err == nil {
			t.Errorf("a tree of %d bytes", size)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Check(ctx, f, 300*BlockSize, other); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestParameters(t *testing.T) {
	root, err := ParseDigest(strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(Parameters("/dev/vda", 1000*BlockSize, root), " ")
	want := `dm-mod.create="root,,,ro,0 8000 verity 1 /dev/vda /dev/vda 4096 4096 1000 1001 sha256 ` + strings.Repeat("ab", 32) + ` - 1 panic_on_corruption" root=/dev/dm-0`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, text := range []string{"", "ab", strings.Repeat("AB", 32), strings.Repeat("ab", 33), strings.Repeat("zz", 32)} {
		if _, err := ParseDigest(text); err == nil {
			t.Errorf("%q is a root hash", text)
		}
	}
}

// zeros contains zeros, at any offset.
type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }

// TestMemory hashes 64 MiB, whose tree has half a MiB. The bound is one piece for each processor:
// memory must not grow with the data.
func TestMemory(t *testing.T) {
	costtest.Budget{Base: uint64(runtime.GOMAXPROCS(0)+1) * (perBlock + 1) * BlockSize}.Run(t, 0, func() {
		if _, err := build(t.Context(), zeros{}, 64<<20, func([]byte, int64) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkBuild hashes data that costs nothing to read.
func BenchmarkBuild(b *testing.B) {
	const data = 64 << 20
	b.SetBytes(data)
	for b.Loop() {
		if _, err := build(b.Context(), zeros{}, data, func([]byte, int64) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzCheck calls Check with any file, size and root hash.
func FuzzCheck(f *testing.F) {
	image := file(f, 3)
	root := write(f, image, 3)
	whole, err := os.ReadFile(image.Name())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, int64(3*BlockSize), root.String())
	f.Add(whole[:100], int64(BlockSize), "ab")
	f.Fuzz(func(t *testing.T, content []byte, data int64, text string) {
		defer costtest.Text.Watch(t, len(content))()
		root, err := ParseDigest(text)
		if err != nil {
			return
		}
		if Check(t.Context(), bytes.NewReader(content), data, root) == nil && int64(len(content)) < FileSize(data) {
			t.Error("a file that is too short is whole")
		}
	})
}
