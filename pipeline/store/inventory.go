package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An Entry is one result in a store: that of a stage, or of a memo that a stage made.
type Entry struct {
	Key     string
	Stage   string
	Memo    string // the memo's own key; "" for the result of a stage
	Created time.Time
	Used    time.Time     // when a build last used it
	Took    time.Duration // how long it took to make
	Outputs []Output
	// Remote is the remote cache it came from; "" if it was made here.
	Remote string
	// Disk is the disk space of its blobs, in bytes. A blob that several entries share counts for
	// each of them.
	Disk int64
}

// StageUsage is the disk space of the results of one stage.
type StageUsage struct {
	Stage   string
	Entries int
	Disk    int64 // bytes on the disk of all its blobs
	Own     int64 // bytes on the disk of blobs that no other stage's results name
}

// Usage is the disk space of a store.
type Usage struct {
	Entries int
	Blobs   int
	Disk    int64 // bytes on the disk of all blobs, each counted once
	// Unreferenced are the bytes of blobs that no entry names, left by builds that failed. Prune
	// removes them.
	Unreferenced int64
	Stages       []StageUsage // by name
}

// List returns all entries, the most recently used first. It skips damaged records; Verify finds
// those.
func (s *Store) List(ctx context.Context) ([]Entry, error) {
	inv, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(inv.records))
	for _, a := range inv.records {
		e := Entry{Key: a.Key, Stage: a.Stage, Memo: a.Memo, Created: a.Created, Used: a.used,
			Took: time.Duration(a.Seconds * float64(time.Second)), Outputs: a.Outputs, Remote: a.Remote}
		for d := range a.Digests() {
			e.Disk += inv.blobs[d]
		}
		entries = append(entries, e)
	}
	slices.Reverse(entries)
	return entries, nil
}

// Usage returns the disk space of the store.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	inv, err := s.inventory(ctx)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Entries: len(inv.records), Blobs: len(inv.blobs)}
	users := map[Digest]map[string]bool{} // which stages name a blob
	stages := map[string]*StageUsage{}
	for _, a := range inv.records {
		st := stages[a.Stage]
		if st == nil {
			st = &StageUsage{Stage: a.Stage}
			stages[a.Stage] = st
		}
		st.Entries++
		for d := range a.Digests() {
			if users[d] == nil {
				users[d] = map[string]bool{}
			}
			users[d][a.Stage] = true
		}
	}
	for d, disk := range inv.blobs {
		u.Disk += disk
		if len(users[d]) == 0 {
			u.Unreferenced += disk
		}
		for name := range users[d] {
			stages[name].Disk += disk
			if len(users[d]) == 1 {
				stages[name].Own += disk
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stages)) {
		u.Stages = append(u.Stages, *stages[name])
	}
	return u, nil
}

// Records returns all records or, if last is true, those that the last build of each scope used,
// the least recently used first.
func (s *Store) Records(ctx context.Context, last bool) ([]*Record, error) {
	inv, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	var kept map[string]bool
	if last {
		kept = s.keptKeys(inv, PruneOptions{KeepLast: true})
	}
	var all []*Record
	for _, r := range inv.records {
		if !last || kept[r.Key] {
			all = append(all, r.Record)
		}
	}
	return all, nil
}

// An inventory lists the contents of a store.
type inventory struct {
	records []storedRecord   // least recently used first
	damaged []damagedRecord  // records that cannot be read
	blobs   map[Digest]int64 // bytes on the disk
	foreign []string         // paths under blobs that are not blobs
}

type storedRecord struct {
	*Record
	used time.Time
}

type damagedRecord struct {
	path string
	err  error
}

func (s *Store) inventory(ctx context.Context) (*inventory, error) {
	inv := &inventory{blobs: map[Digest]int64{}}
	if err := s.readRecords(ctx, inv); err != nil {
		return nil, fmt.Errorf("list cache: %w", err)
	}
	if err := s.findBlobs(ctx, inv); err != nil {
		return nil, fmt.Errorf("list cache: %w", err)
	}
	slices.SortStableFunc(inv.records, func(a, b storedRecord) int { return a.used.Compare(b.used) })
	return inv, nil
}

func (s *Store) readRecords(ctx context.Context, inv *inventory) error {
	dir := filepath.Join(s.dir, "actions")
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		path := filepath.Join(dir, e.Name())
		a, used, err := readRecord(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			inv.damaged = append(inv.damaged, damagedRecord{path, err})
		default:
			inv.records = append(inv.records, storedRecord{a, used})
		}
	}
	return nil
}

// readRecord reads the record at path and when it was last used.
func readRecord(path string) (*Record, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	a, err := ParseRecord(b, strings.TrimSuffix(filepath.Base(path), ".json"))
	return a, info.ModTime(), err
}

func (s *Store) findBlobs(ctx context.Context, inv *inventory) error {
	root := filepath.Join(s.dir, "blobs", "sha256")
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist) && path != root: // removed meanwhile
			return nil
		case err != nil || e.IsDir():
			return err
		}
		d, err := ParseDigest(digestPrefix + e.Name())
		if err != nil || s.blobPath(d) != path || !e.Type().IsRegular() {
			inv.foreign = append(inv.foreign, path)
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			inv.blobs[d] = int64(st.Blocks) * 512 // stat(2): always units of 512
		}
		return nil
	})
}
