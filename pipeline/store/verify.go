package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/sovereign-sql/sov/internal/finding"
)

// VerifyOptions configure Verify.
type VerifyOptions struct {
	// Repair removes damaged files, and records with missing blobs, so that the next build makes
	// them again.
	Repair bool
	// Progress, if not nil, is called with the bytes hashed so far and the total.
	Progress func(done, total int64)
}

// VerifyResult says what Verify checked and found.
type VerifyResult struct {
	Entries int
	Blobs   int
	Bytes   int64 // hashed
	// Away is the number of blobs that are in a remote cache only.
	Away int
	// Problems are failed findings, each of a file in the store.
	Problems []finding.Finding
}

// Verify reads every record and hashes every blob. Damage is a Problem, not an error.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (VerifyResult, error) {
	release, err := s.Use(ctx, nil)
	if err != nil {
		return VerifyResult{}, err
	}
	defer release()
	inv, err := s.inventory(ctx)
	if err != nil {
		return VerifyResult{}, err
	}
	v := &verification{store: s, options: o, res: VerifyResult{Entries: len(inv.records), Blobs: len(inv.blobs)}}
	for _, d := range inv.damaged {
		v.problem(d.path, fmt.Sprintf("damaged record: %v", d.err))
	}
	for _, p := range inv.foreign {
		v.problem(p, "not a blob")
	}
	gone, err := v.blobs(ctx, slices.Sorted(maps.Keys(inv.blobs)))
	if err != nil {
		return v.res, s.Advise(fmt.Errorf("verify cache: %w", err))
	}
	for _, a := range inv.records {
		v.action(a, gone)
	}
	return v.res, nil
}

// A verification is one run of Verify.
type verification struct {
	store   *Store
	options VerifyOptions
	res     VerifyResult
}

// problem records a problem and, with Repair, removes the file.
func (v *verification) problem(path, what string) {
	p := finding.Fail(path, what, "")
	if v.options.Repair {
		if err := removeAll(path); err != nil {
			p.Found += fmt.Sprintf("; remove it: %v", err)
		} else {
			p.Fixed = true
		}
	}
	v.res.Problems = append(v.res.Problems, p)
}

// blobs hashes all blobs and returns those that are not usable.
func (v *verification) blobs(ctx context.Context, digests []Digest) (map[Digest]bool, error) {
	bad := map[Digest]bool{}
	sizes := map[Digest]int64{}
	var total int64
	for _, d := range digests {
		info, err := os.Stat(v.store.blobPath(d))
		if err != nil {
			continue
		}
		sizes[d] = info.Size()
		total += info.Size()
	}
	for _, d := range digests {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := v.blob(Blob{d, sizes[d]}, bad); err != nil {
			return nil, err
		}
		v.res.Bytes += sizes[d]
		if v.options.Progress != nil {
			v.options.Progress(v.res.Bytes, total)
		}
	}
	return bad, nil
}

func (v *verification) blob(b Blob, bad map[Digest]bool) error {
	f, err := os.Open(v.store.blobPath(b.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		bad[b.Digest] = true // a build found it damaged, and removed it, meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	damage, err := v.store.inspect(f, b, true)
	if err != nil || damage == "" {
		return err
	}
	bad[b.Digest] = true
	p := finding.Fail(f.Name(), "damaged blob: "+damage, "")
	if v.options.Repair {
		var removed *BlobError
		if err := v.store.removeDamaged(f, b.Digest, damage); errors.As(err, &removed) {
			p.Fixed = true
		} else {
			p.Found += fmt.Sprintf("; %v", err)
		}
	}
	v.res.Problems = append(v.res.Problems, p)
	return nil
}

// isAway reports whether the store lacks a blob, or will lack it after damage is removed.
func (v *verification) isAway(b Blob, bad map[Digest]bool) bool {
	_, err := os.Stat(v.store.blobPath(b.Digest))
	return bad[b.Digest] || errors.Is(err, fs.ErrNotExist)
}

// action checks that the store has a record's blobs in the right size.
func (v *verification) action(a storedRecord, bad map[Digest]bool) {
	path := v.store.recordPath(a.Key)
	for _, o := range a.Outputs {
		if a.Remote != "" && v.isAway(o.Blob, bad) {
			v.res.Away++
			continue
		}
		if bad[o.Digest] {
			v.problem(path, fmt.Sprintf("record of %s: the blob of %s is damaged", a.Stage, o.Name))
			return
		}
		info, err := os.Stat(v.store.blobPath(o.Digest))
		if errors.Is(err, fs.ErrNotExist) {
			v.problem(path, fmt.Sprintf("record of %s: the blob of %s is missing", a.Stage, o.Name))
			return
		}
		if err == nil && info.Size() != o.Size {
			v.problem(path, fmt.Sprintf("record of %s: %s is said to have %d bytes and has %d", a.Stage, o.Name, o.Size, info.Size()))
			return
		}
	}
}
