package remote

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// format is the version of indexes and of the layout around them.
const format = 1

// maxIndex is the largest index, in bytes. The index of a root file system has about 30 kB.
const maxIndex = 8 << 20

// A piece is a part of a blob as it is kept.
type piece struct {
	Digest store.Digest `json:"digest"` // of the compressed form
	Size   int64        `json:"size"`   // of the compressed form, in bytes
	Length int64        `json:"length"` // of the content, in bytes
}

// A keptBlob is a blob and its pieces, in order.
type keptBlob struct {
	store.Blob
	Pieces []piece `json:"pieces"`
}

// An index is stored under a key.
type index struct {
	Format int             `json:"format"`
	Record json.RawMessage `json:"record"` // as package pipeline made it
	// Signature is the signature of the record (see Trust), or empty. It does not cover the rest,
	// which is checked against the record.
	Signature []byte     `json:"signature,omitempty"`
	Blobs     []keptBlob `json:"blobs"`
}

func (x *index) encode() ([]byte, error) { return json.Marshal(x) }

// decodeIndex decodes and validates an index.
func decodeIndex(b []byte) (*index, error) {
	if len(b) > maxIndex {
		return nil, fmt.Errorf("an index of %d bytes is too large", len(b))
	}
	var x index
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("decode index: %w", err)
	}
	if x.Format != format {
		return nil, fmt.Errorf("the index has format %d; this version of sov knows %d", x.Format, format)
	}
	for _, blob := range x.Blobs {
		if err := blob.check(); err != nil {
			return nil, err
		}
	}
	return &x, nil
}

func (b keptBlob) check() error {
	if _, err := store.ParseDigest(string(b.Digest)); err != nil {
		return err
	}
	rest := b.Size
	for _, p := range b.Pieces {
		if _, err := store.ParseDigest(string(p.Digest)); err != nil {
			return err
		}
		if p.Length <= 0 || p.Length > maxPiece || p.Size <= 0 || p.Size > maxStored {
			return fmt.Errorf("blob %s: a piece of %d bytes, %d compressed", b.Digest.Short(), p.Length, p.Size)
		}
		rest -= p.Length
	}
	if rest != 0 {
		return fmt.Errorf("blob %s: its pieces do not come to %d bytes", b.Digest.Short(), b.Size)
	}
	return nil
}

// blob returns the pieces of a blob, or nil if the index does not have it.
func (x *index) blob(d store.Digest) *keptBlob {
	i := slices.IndexFunc(x.Blobs, func(b keptBlob) bool { return b.Digest == d })
	if i < 0 {
		return nil
	}
	return &x.Blobs[i]
}

// pieces returns all pieces, each once.
func (x *index) pieces() []piece {
	seen := map[store.Digest]bool{}
	var all []piece
	for _, b := range x.Blobs {
		for _, p := range b.Pieces {
			if !seen[p.Digest] {
				seen[p.Digest] = true
				all = append(all, p)
			}
		}
	}
	return all
}
