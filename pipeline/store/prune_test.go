package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fill stores three results at three times: old, middle and new, with one block each. One blob is
// shared by middle and new.
func fill(t *testing.T, s *Store, now time.Time) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for i, name := range []string{"old", "middle", "new"} {
		now = now.Add(time.Hour)
		r := &Record{Stage: name, Created: now}
		if i > 0 {
			r.Outputs = append(r.Outputs, Output{"shared", put(t, s, randomBytes(99, 4096))})
		}
		r.Outputs = append(r.Outputs, Output{"own", put(t, s, randomBytes(uint64(i), 4096))})
		save(t, s, r)
		keys[name] = r.Key
		if err := s.SetLast(name, map[string]StageKey{name: {Key: r.Key}}); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// save stores a record under a key that depends on its content.
func save(t *testing.T, s *Store, r *Record) {
	t.Helper()
	r.Key = DigestOf(fmt.Append(nil, r.Stage, r.Outputs)).Hex()
	if err := s.Save(r); err != nil {
		t.Fatal(err)
	}
}

func remaining(t *testing.T, s *Store) string {
	t.Helper()
	entries, err := s.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Stage)
	}
	return strings.Join(names, " ")
}

func TestPrune(t *testing.T) {
	start := time.Unix(1700000000, 0)
	for _, c := range []struct {
		name    string
		options func(keys map[string]string) PruneOptions
		want    string // the remaining stages, the newest first
		blobs   int    // removed blobs
	}{
		{"nothing", func(map[string]string) PruneOptions { return PruneOptions{} }, "new middle old", 0},
		{"all", func(map[string]string) PruneOptions { return PruneOptions{All: true} }, "", 4},
		{"age", func(map[string]string) PruneOptions {
			return PruneOptions{UnusedSince: start.Add(90 * time.Minute)}
		}, "new middle", 1},
		{"age of two that share", func(map[string]string) PruneOptions {
			return PruneOptions{UnusedSince: start.Add(150 * time.Minute)}
		}, "new", 2},
		{"size that fits", func(map[string]string) PruneOptions { return PruneOptions{MaxDisk: 4 * 4096} }, "new middle old", 0},
		{"size", func(map[string]string) PruneOptions { return PruneOptions{MaxDisk: 3*4096 + 1} }, "new middle", 1},
		{"size of one", func(map[string]string) PruneOptions { return PruneOptions{MaxDisk: 2 * 4096} }, "new", 2},
		{"size of none", func(map[string]string) PruneOptions { return PruneOptions{MaxDisk: 1} }, "", 4},
		{"keep", func(k map[string]string) PruneOptions { return PruneOptions{All: true, Keep: []string{k["old"]}} }, "old", 3},
		{"keep beyond size", func(k map[string]string) PruneOptions {
			return PruneOptions{MaxDisk: 4096, Keep: []string{k["middle"]}}
		}, "middle", 2},
		{"keep last", func(map[string]string) PruneOptions { return PruneOptions{All: true, KeepLast: true} }, "new middle old", 0},
		{"dry run", func(map[string]string) PruneOptions { return PruneOptions{All: true, DryRun: true} }, "new middle old", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			keys := fill(t, s, start)
			res, err := s.Prune(context.Background(), c.options(keys))
			if err != nil {
				t.Fatal(err)
			}
			if got := remaining(t, s); got != c.want {
				t.Errorf("left %q, want %q", got, c.want)
			}
			if res.Blobs != c.blobs || res.Disk != int64(c.blobs)*4096 {
				t.Errorf("removed %d blobs of %d bytes, want %d", res.Blobs, res.Disk, c.blobs)
			}
			if v, err := s.Verify(context.Background(), VerifyOptions{}); err != nil || len(v.Problems) > 0 {
				t.Errorf("verify: %+v, %v", v, err)
			}
		})
	}
}

func TestPruneRemovesLeftovers(t *testing.T) {
	s := openStore(t, t.TempDir())
	put(t, s, []byte("a blob that no record names"))
	gone := filepath.Join(t.TempDir(), "gone")
	if _, err := s.Export(context.Background(), put(t, s, []byte("x")), gone, 0o644); err != nil {
		t.Fatal(err)
	}
	os.Remove(gone)
	os.WriteFile(s.recordPath(strings.Repeat("0", 64)), []byte("damaged"), 0o644)
	os.WriteFile(s.lockPath(strings.Repeat("1", 64)), nil, 0o644)
	os.MkdirAll(filepath.Join(s.dir, "tmp", "dead", "x"), 0o755)
	os.WriteFile(filepath.Join(s.dir, "blobs", "sha256", "stray"), nil, 0o644)
	if _, err := s.Prune(context.Background(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"blobs/sha256/*/*", "blobs/sha256/stray", "stamps/*/*", "actions/*", "exports/*", "tmp/*", "locks/1*"} {
		if left, _ := filepath.Glob(filepath.Join(s.dir, pattern)); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

func TestPruneGivesUpWaiting(t *testing.T) {
	s := openStore(t, t.TempDir())
	release, err := s.Use(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := s.Prune(ctx, PruneOptions{All: true, DryRun: true, OnWait: cancel}); err != nil {
		t.Errorf("a dry run waits for a build: %v", err)
	}
	_, err = s.Prune(ctx, PruneOptions{All: true, OnWait: cancel})
	if err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("error %v", err)
	}
}

func TestUsage(t *testing.T) {
	s := openStore(t, t.TempDir())
	fill(t, s, time.Unix(1700000000, 0))
	put(t, s, randomBytes(7, 4096))
	u, err := s.Usage(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if u.Entries != 3 || u.Blobs != 5 || u.Disk != 5*4096 || u.Unreferenced != 4096 {
		t.Errorf("%+v", u)
	}
	want := []StageUsage{{"middle", 1, 2 * 4096, 4096}, {"new", 1, 2 * 4096, 4096}, {"old", 1, 4096, 4096}}
	if !slices.Equal(u.Stages, want) {
		t.Errorf("stages %+v, want %+v", u.Stages, want)
	}
}

func TestVerifyFindsAndRepairs(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, t.TempDir())
	var records []*Record
	for i := range 4 {
		r := &Record{Stage: "a", Created: time.Now(), Outputs: []Output{{"out", put(t, s, fmt.Append(nil, "text ", i))}}}
		save(t, s, r)
		records = append(records, r)
	}
	blobPath := func(i int) string { return s.blobPath(records[i].Outputs[0].Digest) }
	damaged := blobPath(0)
	// Damage below the file system: the content changes, and the stamp is still valid.
	os.Chmod(damaged, 0o644)
	os.WriteFile(damaged, []byte("text X"), 0o644)
	f, _ := os.Open(damaged)
	st, _ := stampOf(f)
	f.Close()
	digest := Digest(digestPrefix + filepath.Base(damaged))
	s.writeStamp(digest, st)
	if err := s.Check(Blob{digest, 6}); err != nil {
		t.Fatalf("the stamp does not hide the damage: %v", err)
	}
	os.Remove(blobPath(1))
	os.WriteFile(s.recordPath(records[2].Key), []byte("{"), 0o644)

	for _, c := range []struct {
		repair bool
		want   int
	}{{false, 4}, {true, 4}, {false, 0}} {
		var last int64
		v, err := s.Verify(ctx, VerifyOptions{Repair: c.repair, Progress: func(done, total int64) { last = total - done }})
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Problems) != c.want || last != 0 {
			t.Errorf("repair %v: %d problems, want %d: %+v", c.repair, len(v.Problems), c.want, v.Problems)
		}
		for _, p := range v.Problems {
			if _, err := os.Stat(p.Check); p.Fixed != c.repair || os.IsNotExist(err) != c.repair {
				t.Errorf("repair %v: %+v", c.repair, p)
			}
		}
	}
	r, _, err := s.Get(Query{Key: records[3].Key})
	if err != nil || r == nil {
		t.Fatalf("what was not damaged did not survive the repair: %v", err)
	}
	f, err = s.Open(r.Outputs[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != "text 3" {
		t.Errorf("what was not damaged is %q after the repair, %v", got, err)
	}
}
