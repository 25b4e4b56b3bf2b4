// Package push is the computer's side of installing a machine on a phone: it sends the runner, the
// chunks of the version that the phone does not have, and secrets. Package pushapi has the
// protocol, package receive the phone's side.
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

// An Artifact is a built machine, verified and cut into chunks, ready to be sent to phones.
type Artifact struct {
	*installed.Artifact
	// Signed is the statement of the signature, which is valid; the phone decides whether it trusts
	// the key. Nil: it is not signed, or by a version of sov without serials.
	Signed *provenance.Signed
	// AllowDowngrade makes the phone accept a signed version that is older than one before.
	AllowDowngrade bool

	files []file
	data  []int64 // of each file: bytes in chunks other than zeros
}

type file struct {
	manifest.File
	path   string
	chunks chunk.List
}

// Size returns the size of the files that are sent, in bytes, including holes.
func (a *Artifact) Size() int64 {
	var n int64
	for _, f := range a.files {
		n += f.Size
	}
	return n
}

// Open reads the artifact in a folder, checks its files against its manifest and cuts them into
// chunks. report is called with the bytes read so far and their total.
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

// cut cuts a file into chunks and stores their list.
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
