package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

const benchSize = 128 << 20

// BenchmarkCopyFile measures the bound for Put and Export: a plain copy with and without a sync,
// and the hash alone.
func BenchmarkCopyFile(b *testing.B) {
	dir := b.TempDir()
	src := filepath.Join(dir, "src")
	if err := os.WriteFile(src, randomBytes(1, benchSize), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, sync := range []bool{false, true} {
		b.Run(fmt.Sprintf("sync=%v", sync), func(b *testing.B) {
			b.SetBytes(benchSize)
			for i := 0; b.Loop(); i++ {
				copyFile(b, src, filepath.Join(dir, fmt.Sprint(i%2)), sync)
			}
		})
	}
	b.Run("sha256", func(b *testing.B) {
		b.SetBytes(benchSize)
		f, err := os.Open(src)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for b.Loop() {
			if _, err := hashFile(f, benchSize); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func copyFile(b *testing.B, from, to string, sync bool) {
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		b.Fatal(err)
	}
	if sync {
		if err := out.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPut stores content that the store does not have.
func BenchmarkPut(b *testing.B) {
	s := openStore(b, b.TempDir())
	content := randomBytes(1, benchSize)
	b.SetBytes(benchSize)
	for i := 0; b.Loop(); i++ {
		content[0], content[1] = byte(i), byte(i>>8)
		blob, err := s.Put(context.Background(), bytes.NewReader(content))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		os.Remove(s.blobPath(blob.Digest))
		b.StartTimer()
	}
}

func BenchmarkExport(b *testing.B) {
	s := openStore(b, b.TempDir())
	blob := put(b, s, randomBytes(1, benchSize))
	path := filepath.Join(b.TempDir(), "out")
	b.Run("new", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			os.Remove(path)
			if _, err := s.Export(context.Background(), blob, path, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			if written, err := s.Export(context.Background(), blob, path, 0o644); err != nil || written {
				b.Fatal(written, err)
			}
		}
	})
}
