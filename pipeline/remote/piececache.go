package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// parallel is the number of pieces that are sent to or fetched from a cache at once.
const parallel = 6

// A backend keeps indexes and pieces. The error for a missing one matches fs.ErrNotExist. Methods
// may be called from several goroutines, retry after temporary errors, and are limited in time.
type backend interface {
	keys(ctx context.Context) ([]string, error)
	index(ctx context.Context, key string) ([]byte, error)
	piece(ctx context.Context, p piece) ([]byte, error)
	// putPiece keeps a piece unless it is there already.
	putPiece(ctx context.Context, p piece, stored []byte) (sent bool, err error)
	// putIndex keeps an index whose pieces are all there.
	putIndex(ctx context.Context, key string, encoded []byte, pieces []piece) error
}

// A PieceCache is a Cache that keeps blobs in pieces; see the package comment.
type PieceCache struct {
	name  string
	kept  backend
	trust Trust
	slots chan struct{}

	mu      sync.Mutex
	indexes map[string]*index
	sent    map[store.Digest]keptBlob // blobs that the cache has, under any key
	damaged map[store.Digest]bool     // pieces that may be damaged
	moved   Moved
}

// Moved counts the transferred bytes of compressed pieces.
type Moved struct{ Sent, Received int64 }

var _ Cache = (*PieceCache)(nil)

func newCache(name string, kept backend) *PieceCache {
	return &PieceCache{name: name, kept: kept, slots: make(chan struct{}, parallel), indexes: map[string]*index{}, sent: map[store.Digest]keptBlob{}, damaged: map[store.Digest]bool{}}
}

// Trusting sets which records are trusted and how new ones are signed. It returns c.
func (c *PieceCache) Trusting(t Trust) *PieceCache {
	c.trust = t
	return c
}

// Name implements Cache.
func (c *PieceCache) Name() string { return c.name }

// Moved returns what has been sent and received so far.
func (c *PieceCache) Moved() Moved {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

// Keys implements Cache.
func (c *PieceCache) Keys(ctx context.Context) ([]string, error) { return c.kept.keys(ctx) }

// Record implements Cache.
func (c *PieceCache) Record(ctx context.Context, key string) (record []byte, signer string, err error) {
	x, err := c.lookup(ctx, key)
	if err != nil {
		return nil, "", err
	}
	signer, err = c.signer(x)
	if err != nil {
		return nil, "", err
	}
	return x.Record, signer, nil
}

// signer returns the ID of the key that signed an index's record, if a signature is required.
func (c *PieceCache) signer(x *index) (string, error) {
	switch {
	case c.trust.Verify == nil:
		return "", nil
	case len(x.Signature) == 0:
		return "", ErrUnsigned
	}
	signer, err := c.trust.Verify(text(x.Record), x.Signature)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnsigned, err)
	}
	return signer, nil
}

// lookup returns the index under key, and requests it at most once.
func (c *PieceCache) lookup(ctx context.Context, key string) (*index, error) {
	c.mu.Lock()
	x := c.indexes[key]
	c.mu.Unlock()
	if x != nil {
		return x, nil
	}
	c.slots <- struct{}{}
	b, err := c.kept.index(ctx, key)
	<-c.slots
	if err != nil {
		return nil, err
	}
	x, err = decodeIndex(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	c.remember(key, x)
	return x, nil
}

func (c *PieceCache) remember(key string, x *index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.indexes[key] = x
}

// Fetch implements Cache.
func (c *PieceCache) Fetch(ctx context.Context, key string, b store.Blob, w io.WriterAt, progress func(n int64)) error {
	x, err := c.lookup(ctx, key)
	if err != nil {
		return err
	}
	blob := x.blob(b.Digest)
	if blob == nil {
		return fmt.Errorf("%s keeps no blob %s: %w", c.name, b.Digest.Short(), fs.ErrNotExist)
	}
	if blob.Size != b.Size {
		return fmt.Errorf("%w: blob %s is said to have %d bytes, not %d", ErrRefused, b.Digest.Short(), blob.Size, b.Size)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	var at int64
	for _, p := range blob.Pieces {
		off := at
		at += p.Length
		group.Go(func() error {
			if err := c.fetchPiece(ctx, p, w, off); err != nil {
				return err
			}
			if progress != nil {
				progress(p.Length)
			}
			return nil
		})
	}
	err = group.Wait()
	if errors.Is(err, ErrRefused) {
		c.suspect(blob)
	}
	return err
}

func (c *PieceCache) fetchPiece(ctx context.Context, p piece, w io.WriterAt, off int64) error {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	stored, err := c.kept.piece(ctx, p)
	if errors.Is(err, fs.ErrNotExist) {
		// The index lists the piece, so it was removed.
		err = fmt.Errorf("%w: piece %s is gone", ErrRefused, p.Digest.Short())
	}
	var content []byte
	if err == nil {
		content, err = unpack(p, stored)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.moved.Received += p.Size
	c.mu.Unlock()
	_, err = w.WriteAt(content, off)
	return err
}

// suspect marks a blob to be sent again: after one damaged piece, the others were not checked.
func (c *PieceCache) suspect(b *keptBlob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range b.Pieces {
		c.damaged[p.Digest] = true
	}
}

func (c *PieceCache) isDamaged(d store.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.damaged[d]
}

// Put implements Cache.
func (c *PieceCache) Put(ctx context.Context, key string, record []byte, blobs []store.Blob, open func(store.Blob) (*os.File, error), progress func(n int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	out := &index{Format: format, Record: record}
	if c.trust.Sign != nil {
		signature, err := c.trust.Sign(text(record))
		if err != nil {
			return fmt.Errorf("sign record: %w", err)
		}
		out.Signature = signature
	}
	before, err := c.sound(ctx, key, record)
	if err != nil {
		return err
	}
	missing := slices.Clone(blobs)
	if before != nil {
		out.Blobs = slices.Clone(before.Blobs)
		missing = slices.DeleteFunc(missing, func(b store.Blob) bool {
			kept := before.blob(b.Digest) != nil
			if kept {
				progress(b.Size)
			}
			return kept
		})
		if len(missing) == 0 {
			return nil
		}
	}
	for _, b := range missing {
		kept, err := c.putBlob(ctx, b, open, progress)
		if err != nil {
			return err
		}
		out.Blobs = append(out.Blobs, kept)
	}
	encoded, err := out.encode()
	if err != nil {
		return err
	}
	c.slots <- struct{}{}
	err = c.kept.putIndex(ctx, key, encoded, out.pieces())
	<-c.slots
	if err == nil {
		c.remember(key, out)
	}
	return err
}

// sound returns the index under key without blobs that are known to be damaged. It returns nil if
// the index differs from record or lacks a required signature.
func (c *PieceCache) sound(ctx context.Context, key string, record []byte) (*index, error) {
	x, err := c.lookup(ctx, key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrRefused) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := c.signer(x); err != nil || !sameResult(x.Record, record, key) {
		return nil, nil
	}
	good := *x
	good.Blobs = slices.DeleteFunc(slices.Clone(x.Blobs), func(b keptBlob) bool {
		return slices.ContainsFunc(b.Pieces, func(p piece) bool { return c.isDamaged(p.Digest) })
	})
	return &good, nil
}

// putBlob cuts a blob into pieces and stores those that are missing.
func (c *PieceCache) putBlob(ctx context.Context, b store.Blob, open func(store.Blob) (*os.File, error), progress func(n int64)) (keptBlob, error) {
	c.mu.Lock()
	kept, known := c.sent[b.Digest]
	c.mu.Unlock()
	if known {
		progress(b.Size)
		return kept, nil
	}
	f, err := open(b)
	if err != nil {
		return keptBlob{}, err
	}
	defer f.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	var pieces []*piece
	err = split(f, func(content []byte) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := new(piece)
		pieces = append(pieces, p)
		group.Go(func() (err error) {
			*p, err = c.putPiece(ctx, content)
			progress(int64(len(content)))
			return err
		})
		return nil
	})
	if failed := group.Wait(); failed != nil {
		err = failed
	}
	if err != nil {
		return keptBlob{}, err
	}
	kept = keptBlob{Blob: b}
	for _, p := range pieces {
		kept.Pieces = append(kept.Pieces, *p)
	}
	if err := kept.check(); err != nil {
		return keptBlob{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent[b.Digest] = kept
	return kept, nil
}

func (c *PieceCache) putPiece(ctx context.Context, content []byte) (piece, error) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	p, stored := pack(content)
	if c.isDamaged(p.Digest) {
		p, stored = repack(content)
	}
	sent, err := c.kept.putPiece(ctx, p, stored)
	if sent && err == nil {
		c.mu.Lock()
		c.moved.Sent += p.Size
		c.mu.Unlock()
	}
	return p, err
}

// sameResult reports whether two records under key are valid and name the same outputs.
func sameResult(a, b []byte, key string) bool {
	one, err := store.ParseRecord(a, key)
	if err != nil {
		return false
	}
	other, err := store.ParseRecord(b, key)
	return err == nil && slices.Equal(one.Outputs, other.Outputs)
}
