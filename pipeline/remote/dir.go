package remote

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// Names in a directory and in a file; see the package comment.
const (
	formatFile = "sov-cache.json"
	formatText = "{\"format\":1}\n"
)

func indexName(key string) string { return "index/" + key + ".json" }

func pieceName(d store.Digest) string { return "pieces/" + d.Hex()[:2] + "/" + d.Hex() }

// keyOf returns the key of an index's name, or "".
func keyOf(name string) string {
	key := strings.TrimSuffix(strings.TrimPrefix(name, "index/"), ".json")
	if _, err := store.ParseDigest("sha256:" + key); err != nil || indexName(key) != name {
		return ""
	}
	return key
}

// Dir returns the cache in a directory, which is created by the first Put. Files appear in it
// complete; several computers may share it.
func Dir(path string) *PieceCache { return newCache(path, &dir{root: path}) }

type dir struct {
	root  string
	sweep sync.Once
}

func (d *dir) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

func (d *dir) keys(ctx context.Context) ([]string, error) {
	if _, err := d.read(formatFile, int64(len(formatText))); err != nil {
		return nil, fmt.Errorf("%s is not a cache: %w: `sov cache push type=dir,dest=%[1]s` makes one", d.root, err)
	}
	entries, err := os.ReadDir(d.path("index"))
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		if key := keyOf("index/" + e.Name()); key != "" {
			keys = append(keys, key)
		}
	}
	return keys, ctx.Err()
}

func (d *dir) index(ctx context.Context, key string) ([]byte, error) {
	return d.read(indexName(key), maxIndex)
}

func (d *dir) piece(ctx context.Context, p piece) ([]byte, error) {
	return d.read(pieceName(p.Digest), p.Size)
}

// read returns a file of at most limit bytes.
func (d *dir) read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, limit)
}

// readAtMost reads everything, if that is at most limit bytes.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: it is longer than %d bytes", ErrRefused, limit)
	}
	return b, err
}

func (d *dir) putPiece(ctx context.Context, p piece, stored []byte) (sent bool, err error) {
	info, err := os.Stat(d.path(pieceName(p.Digest)))
	if err == nil && info.Size() == p.Size {
		return false, nil
	}
	return true, d.write(pieceName(p.Digest), stored)
}

func (d *dir) putIndex(ctx context.Context, key string, encoded []byte, _ []piece) error {
	d.sweep.Do(d.removeAbandoned)
	if _, err := os.Stat(d.path(formatFile)); err != nil {
		if err := d.write(formatFile, []byte(formatText)); err != nil {
			return err
		}
	}
	return d.write(indexName(key), encoded)
}

// removeAbandoned removes temporary files of writers that were killed. It uses their age: on a
// network share, locks may exclude only processes of this computer. Errors are ignored; the file
// stays.
func (d *dir) removeAbandoned() {
	entries, _ := os.ReadDir(d.path("tmp"))
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > abandoned {
			os.Remove(d.path("tmp/" + e.Name()))
		}
	}
}

// abandoned is the age at which a temporary file of a few megabytes is taken to have no writer.
const abandoned = 24 * time.Hour

// write replaces a file's content or leaves the file unchanged. It does not sync: a share may take
// long to sync megabytes, and a file that a power cut damages is found when it is read, and made
// again.
func (d *dir) write(name string, content []byte) error {
	for _, sub := range []string{"tmp", filepath.Dir(name)} {
		if err := os.MkdirAll(d.path(sub), 0o755); err != nil {
			return err
		}
	}
	return durable.WriteFile(d.path(name), content, 0o644, durable.In(d.path("tmp")), durable.NoSync())
}
