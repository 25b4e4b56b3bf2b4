package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/durable"
)

// PruneOptions say what Prune removes. If none of All, UnusedSince, MadeBefore and MaxDisk is set,
// it removes only what no entry uses: leftovers of failed builds, unreadable records, stale locks
// and notes.
type PruneOptions struct {
	// All removes every entry that is not kept.
	All bool
	// UnusedSince, if not zero, removes entries last used before it.
	UnusedSince time.Time
	// MadeBefore, if not zero, removes entries made before it, used or not.
	MadeBefore time.Time
	// MaxDisk, if not zero, is how many bytes the blobs may take on the disk. The least recently
	// used entries are removed until they fit.
	MaxDisk int64
	// Keep lists keys of entries that are kept regardless of the other options.
	Keep []string
	// KeepScopes keeps what the last build of these scopes used: "sql/arm64", or "sql" for all that
	// begin with "sql/".
	KeepScopes []string
	// KeepLast keeps what the last build of each scope used.
	KeepLast bool
	// DryRun removes nothing, does not wait for builds, and returns what would be removed.
	DryRun bool
	// OnWait, if not nil, is called once if Prune has to wait for a running build.
	OnWait func()
}

// PruneResult is what Prune removed, or would remove.
type PruneResult struct {
	Entries []Entry // least recently used first, without Disk
	Blobs   int
	Disk    int64 // disk space of the removed blobs, in bytes
}

// Prune removes entries, and blobs that no entry names. Entries that are in use by a running build
// are safe: it waits until none is running.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (PruneResult, error) {
	mode := durable.Exclusive
	if o.DryRun {
		mode = durable.Shared
	}
	lock, err := s.lock(ctx, "store", mode, durable.LockOptions{}, func(string) {
		if o.OnWait != nil {
			o.OnWait()
		}
	})
	if err != nil {
		return PruneResult{}, s.Advise(fmt.Errorf("prune cache: lock it: %w", err))
	}
	defer lock.Release()
	inv, err := s.inventory(ctx)
	if err != nil {
		return PruneResult{}, err
	}
	removed, kept := choose(inv, o, s.keptKeys(inv, o))
	res := PruneResult{}
	for _, a := range removed {
		res.Entries = append(res.Entries, Entry{Key: a.Key, Stage: a.Stage, Memo: a.Memo, Created: a.Created,
			Used: a.used, Took: time.Duration(a.Seconds * float64(time.Second)), Outputs: a.Outputs})
	}
	unnamed := unnamedBlobs(inv, kept)
	for _, d := range unnamed {
		res.Blobs++
		res.Disk += inv.blobs[d]
	}
	if o.DryRun {
		return res, nil
	}
	if err := s.remove(ctx, inv, removed, unnamed); err != nil {
		return res, s.Advise(fmt.Errorf("prune cache: %w", err))
	}
	return res, nil
}

// keptKeys returns the entries that stay: those asked for and their memos.
func (s *Store) keptKeys(inv *inventory, o PruneOptions) map[string]bool {
	kept := map[string]bool{}
	for _, k := range o.Keep {
		kept[k] = true
	}
	for scope, keys := range s.lastKeys() {
		if !o.KeepLast && !slices.ContainsFunc(o.KeepScopes, func(k string) bool { return scope == k || strings.HasPrefix(scope, k+"/") }) {
			continue
		}
		for _, k := range keys {
			kept[k] = true
		}
	}
	for _, a := range inv.records {
		if kept[a.Key] {
			for _, m := range a.Memos {
				kept[m] = true
			}
		}
	}
	return kept
}

// choose divides the actions into those to remove and those to keep.
func choose(inv *inventory, o PruneOptions, keep map[string]bool) (removed, kept []storedRecord) {
	names := map[Digest]int{} // how many remaining actions name a blob
	var disk int64
	for _, a := range inv.records {
		if !keep[a.Key] && (o.All || a.used.Before(o.UnusedSince) || a.Created.Before(o.MadeBefore)) {
			removed = append(removed, a)
			continue
		}
		kept = append(kept, a)
		for d := range a.Digests() {
			if names[d]++; names[d] == 1 {
				disk += inv.blobs[d]
			}
		}
	}
	if o.MaxDisk <= 0 {
		return removed, kept
	}
	rest := kept
	kept = nil
	for _, a := range rest {
		if keep[a.Key] || disk <= o.MaxDisk {
			kept = append(kept, a)
			continue
		}
		removed = append(removed, a)
		for d := range a.Digests() {
			if names[d]--; names[d] == 0 {
				disk -= inv.blobs[d]
			}
		}
	}
	return removed, kept
}

// unnamedBlobs returns the blobs that none of the actions names.
func unnamedBlobs(inv *inventory, actions []storedRecord) []Digest {
	named := map[Digest]bool{}
	for _, a := range actions {
		for d := range a.Digests() {
			named[d] = true
		}
	}
	var unnamed []Digest
	for d := range inv.blobs {
		if !named[d] {
			unnamed = append(unnamed, d)
		}
	}
	slices.Sort(unnamed)
	return unnamed
}

// remove removes records before blobs, so that a record never names a blob that was pruned,
// wherever it is interrupted.
func (s *Store) remove(ctx context.Context, inv *inventory, actions []storedRecord, blobs []Digest) error {
	var paths []string
	for _, a := range actions {
		paths = append(paths, s.recordPath(a.Key))
	}
	for _, d := range inv.damaged {
		paths = append(paths, d.path)
	}
	paths = append(paths, inv.foreign...)
	for _, d := range blobs {
		paths = append(paths, s.blobPath(d), s.stampPath(d))
	}
	paths = append(paths, s.staleNotes()...)
	for _, p := range paths {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := removeAll(p); err != nil {
			return err
		}
	}
	return s.Sweep()
}

// staleNotes returns the locks of actions and blobs, which no process can hold now, and the notes
// of exported files that do not exist any more.
func (s *Store) staleNotes() []string {
	var stale []string
	locks, _ := os.ReadDir(filepath.Join(s.dir, "locks"))
	for _, l := range locks {
		if isHex64(strings.TrimPrefix(l.Name(), fetchLockPrefix)) {
			stale = append(stale, s.lockPath(l.Name()))
		}
	}
	notes, _ := filepath.Glob(filepath.Join(s.dir, "exports", "*"))
	for _, n := range notes {
		b, err := os.ReadFile(n)
		var e exported
		if err == nil && unseal(b, &e) == nil {
			if _, err := os.Lstat(e.Path); !errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		stale = append(stale, n)
	}
	return stale
}
