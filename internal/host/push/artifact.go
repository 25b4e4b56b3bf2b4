// Package push is the computer's part of installing a machine on a phone: it sends the runner, the
// version's content, of which only what the phone has not, and secrets. What the two sides say to
// each other is package pushapi's, what the phone does package receive's.
package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/chunk"
)

// An Artifact is a built machine, verified and cut into chunks: what is to be known of it to send
// it to any phone.
type Artifact struct {
	*installed.Artifact
	// Signed is what the signature says, which is valid; whether its key is trusted is the phone's
	// to decide. Nil: it is not signed, or by a sov that knew no serials.
	Signed *provenance.Signed
	// AllowDowngrade asks the phone to take a signed version that is older than one before.
	AllowDowngrade bool

	files []file
	data  []int64 // of each file: bytes in chunks that are not zeros
}

type file struct {
	manifest.File
	path   string
	chunks chunk.List
}

// Size is how many bytes the files have that travel, holes included.
func (a *Artifact) Size() int64 {
	var n int64
	for _, f := range a.files {
		n += f.Size
	}
	return n
}

// Open reads the artifact in a folder, compares its files with its manifest and cuts them. report
// is told how many bytes were read of how many.
func Open(ctx context.Context, dir string, report func(done, total int64)) (*Artifact, error) {
	loaded, err := installed.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("%s is not a built machine: %w", dir, err)
	}
	a := &Artifact{Artifact: loaded}
	if a.Signed, err = provenance.ReadSigned(dir); err == nil && a.Signed != nil && !a.Signed.IsOf(a.Manifest.Name, a.Digest) {
		err = fmt.Errorf("%s in %s is about another version: sign it again with `sov sign`, or remove that file", artifact.SignedFile, dir)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range installed.Streamed(loaded) {
		a.files = append(a.files, file{File: f, path: filepath.Join(dir, f.Name)})
	}
	done, total := int64(0), a.Size()
	for i := range a.files {
		f := &a.files[i]
		data := int64(0)
		err := f.cut(func(c chunk.Chunk) error {
			if !c.Zero {
				data += int64(c.Size)
			}
			done += int64(c.Size)
			report(done, total)
			return context.Cause(ctx)
		})
		if err != nil {
			return nil, err
		}
		a.data = append(a.data, data)
	}
	return a, nil
}

// cut reads a file and keeps its chunks.
func (f *file) cut(each func(chunk.Chunk) error) error {
	src, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer src.Close()
	whole := sha256.New()
	err = chunk.Each(src, func(c chunk.Chunk, content []byte) error {
		whole.Write(content)
		f.chunks = append(f.chunks, chunk.Piece{Name: c.Sum.Name(), Size: c.Size, Zero: c.Zero})
		return each(c)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", f.path, err)
	}
	if got := hex.EncodeToString(whole.Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s, manifest.json says %s: build it again", f.path, got, f.SHA256)
	}
	return nil
}
