package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
	"github.com/sovereign-sql/sov/pipeline/store"
)

func TestDiskFull(t *testing.T) {
	const size = 4 << 20
	for _, c := range []struct {
		name string
		run  func(ctx context.Context, j *Job) error
	}{
		{"output", func(_ context.Context, j *Job) error {
			_, err := j.Write("out", make([]byte, 2*size))
			return err
		}},
		{"output at random", func(_ context.Context, j *Job) error {
			w, err := j.Create("out")
			if err != nil {
				return err
			}
			_, err = w.File().WriteAt(make([]byte, 2*size), 4096)
			return err
		}},
		{"memo", func(ctx context.Context, j *Job) error {
			_, err := j.Memo(ctx, "m", func(w *Writer) error { _, err := w.Write(make([]byte, 2*size)); return err })
			return err
		}},
		{"scratch", func(_ context.Context, j *Job) error {
			dir, err := j.Scratch()
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "x"), make([]byte, 2*size), 0o644)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, mounttest.Tmpfs(t, "4m"))
			e := &Engine{Store: s}
			_, err := e.Build(context.Background(), []Stage{&testStage{name: "big", run: c.run}})
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("error %v, want ENOSPC", err)
			}
			want := "the disk that holds the cache " + s.Dir() + " is full: free some space"
			if got := err.Error(); !strings.HasPrefix(got, "stage big: ") || strings.Count(got, want) != 1 {
				t.Errorf("error %q, want it to say once %q", got, want)
			}
			assertNothingHalfMade(t, s)
			mustBuild(t, e, writes("small", "fits"))
		})
	}
}

func TestReadOnlyCache(t *testing.T) {
	dir := mounttest.Tmpfs(t, "4m")
	e := &Engine{Store: openStore(t, dir), Scope: "x"}
	mustBuild(t, e, writes("a", "A"))
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	e.Store = openStore(t, dir)
	if res := mustBuild(t, e, writes("a", "A")); res.Stage("a").Status != Cached {
		t.Errorf("all is in the cache: %s", statuses(res))
	}
	want := "the cache " + dir + " is on a read-only file system: make it writable or choose another directory"
	_, err := e.Build(context.Background(), []Stage{writes("a", "B")})
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), want) {
		t.Errorf("build: error %v, want %q", err, want)
	}
	if _, err := e.Store.Local().Prune(context.Background(), store.PruneOptions{All: true}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("prune: error %v, want %q", err, want)
	}
	if _, err := store.Open(filepath.Join(dir, "new")); err == nil || !strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("open a new one: error %v", err)
	}
}
