package simg

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSimg2img converts our sparse image back to the raw image with Android's own reader.
func TestSimg2img(t *testing.T) {
	simg2img, err := exec.LookPath("simg2img")
	if err != nil {
		t.Skip("needs simg2img: Debian's package android-sdk-libsparse-utils")
	}
	noise := make([]byte, 300*BlockSize)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	pattern := bytes.Repeat([]byte{1, 2, 3, 4}, 5*BlockSize/4)
	for name, raw := range map[string][]byte{
		"a block":    noise[:BlockSize],
		"zeros":      make([]byte, 70*BlockSize),
		"mixed":      bytes.Join([][]byte{noise, make([]byte, 9*BlockSize), pattern, noise[:3*BlockSize], make([]byte, BlockSize)}, nil),
		"an odd end": append(bytes.Clone(noise), 1, 2, 3),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			sparse, back := filepath.Join(dir, "sparse"), filepath.Join(dir, "raw")
			f, err := os.Create(sparse)
			if err != nil {
				t.Fatal(err)
			}
			if err := Write(f, bytes.NewReader(raw), int64(len(raw))); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(simg2img, sparse, back).CombinedOutput(); err != nil {
				t.Fatalf("simg2img: %v: %s", err, out)
			}
			got, err := os.ReadFile(back)
			if err != nil {
				t.Fatal(err)
			}
			want := append(bytes.Clone(raw), make([]byte, (BlockSize-len(raw)%BlockSize)%BlockSize)...)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes came back of %d", len(got), len(want))
			}
			info, err := os.Stat(sparse)
			if err != nil || name == "zeros" && info.Size() != fileHeaderSize+chunkHeaderSize+4 {
				t.Errorf("%d bytes for zeros: %v", info.Size(), err)
			}
		})
	}
}

func TestTooShort(t *testing.T) {
	if err := Write(&bytes.Buffer{}, bytes.NewReader(make([]byte, 100)), 2*BlockSize); err == nil {
		t.Error("an image that ends too early was written")
	}
}
