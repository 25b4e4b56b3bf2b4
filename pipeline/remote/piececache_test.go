package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/registrytest"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// random returns n bytes that do not compress and depend on seed only.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// A results is a stage whose outputs are files.
type results struct {
	name  string
	files map[string][]byte
	runs  atomic.Int64
}

func (r *results) Name() string                               { return r.name }
func (*results) Needs() []string                              { return nil }
func (*results) Key(k *pipeline.Key, _ pipeline.Inputs) error { return nil }

func (r *results) Run(_ context.Context, j *pipeline.Job) error {
	r.runs.Add(1)
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		if _, err := j.Write(name, r.files[name]); err != nil {
			return err
		}
	}
	return nil
}

func newResults() *results {
	return &results{name: "made", files: map[string][]byte{"large": append(random(1, 6<<20), make([]byte, 5<<20)...), "small": []byte("small"), "empty": nil}}
}

// A warnings keeps a build's warnings.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) Report(e progress.Event) {
	if e.Type == progress.EventWarning {
		w.add(e.Text)
	}
}

func (w *warnings) Close() error { return nil }

func (w *warnings) add(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func (w *warnings) String() string { return strings.Join(w.text, "\n") }

// build builds into an empty store and checks the outputs. It reports whether the stage ran, and
// the warnings.
func build(t *testing.T, st *results, r Options) (ran bool, said *warnings) {
	t.Helper()
	return buildIn(t, t.TempDir(), st, r)
}

func buildIn(t *testing.T, dir string, st *results, r Options) (ran bool, said *warnings) {
	t.Helper()
	said = &warnings{}
	r.Warn = func(_, text string) { said.add(text) }
	local, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := st.runs.Load()
	e := &pipeline.Engine{Store: Wrap(t.Context(), local, r), Deliver: []string{st.name}, Progress: said}
	res, err := e.Build(t.Context(), []pipeline.Stage{st})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range st.files {
		b, err := res.Output(st.name, name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := local.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what it should be: %v", name, err)
		}
	}
	return st.runs.Load() > before, said
}

// quick retries immediately. hasty soon gives up a registry that is silent or only busy.
var (
	quick = RegistryOptions{Pause: time.Millisecond}
	hasty = RegistryOptions{Patience: 300 * time.Millisecond, Pause: time.Millisecond}
)

func open(t *testing.T, r *registrytest.Registry, o RegistryOptions) *PieceCache {
	t.Helper()
	c, err := Registry(r.Repository("team/cache"), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func from(c *PieceCache) Options { return Options{From: []Cache{c}} }

func to(c *PieceCache) Options {
	return Options{To: []Target{{Cache: c, Max: true}}}
}

func TestThereAndBack(t *testing.T) {
	registry := registrytest.Start(t)
	dir := filepath.Join(t.TempDir(), "a", "cache")
	for name, reopen := range map[string]func() *PieceCache{
		"registry":  func() *PieceCache { return open(t, registry, RegistryOptions{}) },
		"directory": func() *PieceCache { return Dir(dir) },
	} {
		t.Run(name, func(t *testing.T) {
			st := newResults()
			sender := reopen()
			if _, said := build(t, st, to(sender)); said.String() != "" {
				t.Errorf("warnings: %s", said)
			}
			if sent := sender.Moved().Sent; sent < 6<<20 || sent > 6<<20+100<<10 {
				t.Errorf("%d bytes were sent", sent)
			}
			receiver := reopen()
			if ran, said := build(t, st, from(receiver)); ran || said.String() != "" {
				t.Errorf("it ran: %v; warnings: %s", ran, said)
			}
			if received := receiver.Moved().Received; received != sender.Moved().Sent {
				t.Errorf("%d bytes were received, %d sent", received, sender.Moved().Sent)
			}
			again := reopen()
			build(t, st, to(again))
			if again.Moved().Sent != 0 {
				t.Errorf("%d bytes were sent again", again.Moved().Sent)
			}
			keys, err := reopen().Keys(t.Context())
			if err != nil || len(keys) != 1 {
				t.Errorf("keys %q, %v", keys, err)
			}
			if _, _, err := reopen().Record(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a record that is not there: %v", err)
			}
		})
	}
}

func TestOnlyWhatChangedIsSent(t *testing.T) {
	registry := registrytest.Start(t)
	st := newResults()
	build(t, st, to(open(t, registry, RegistryOptions{})))
	st.name = "changed"
	large := st.files["large"]
	st.files["large"] = slices.Concat(large[:3<<20], []byte("inserted"), large[3<<20:])
	c := open(t, registry, RegistryOptions{})
	build(t, st, to(c))
	if sent := c.Moved().Sent; sent > 2*maxPiece || sent == 0 {
		t.Errorf("%d of %d bytes were sent", sent, len(large))
	}
}

func TestBadRegistries(t *testing.T) {
	refused := registrytest.Answer(http.StatusForbidden, "GET", "HEAD", "POST", "PUT", "PATCH")
	tests := []struct {
		name  string
		spoil func(r *registrytest.Registry)
		want  string // in a warning
	}{
		{"spoilt blobs", func(r *registrytest.Registry) { r.Spoil(1000) }, "refused"},
		{"emptied blobs", func(r *registrytest.Registry) {
			for _, path := range r.Blobs() {
				os.Truncate(path, 0)
			}
		}, "refused"},
		{"lost blobs", func(r *registrytest.Registry) {
			for _, path := range r.Blobs() {
				os.Remove(path)
			}
		}, "is gone"},
		{"answers that are cut off", func(r *registrytest.Registry) { r.SetFault(r.Truncate) }, "EOF"},
		{"blobs that are cut off", func(r *registrytest.Registry) {
			r.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
				return strings.Contains(req.URL.Path, "/blobs/") && r.Truncate(w, req)
			})
		}, "truncated"},
		{"not running", func(r *registrytest.Registry) { r.Stop() }, "cannot be used"},
		{"silent", func(r *registrytest.Registry) { r.SetFault(registrytest.Stall) }, "cannot be used"},
		{"no access", func(r *registrytest.Registry) { r.SetFault(refused) }, "docker login"},
		{"broken", func(r *registrytest.Registry) {
			r.SetFault(registrytest.Answer(http.StatusBadGateway, "GET"))
		}, "502"},
		{"something else", func(r *registrytest.Registry) {
			r.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
				io.WriteString(w, "<html>Please log in to the network.</html>")
				return true
			})
		}, "remote cache"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			registry := registrytest.Start(t)
			st := newResults()
			build(t, st, to(open(t, registry, quick)))
			tt.spoil(registry)
			options := quick
			if tt.name == "silent" {
				options = hasty
			}
			c := open(t, registry, options)
			start := time.Now()
			ran, said := build(t, st, Options{From: from(c).From, To: to(c).To})
			if !ran || !strings.Contains(said.String(), tt.want) {
				t.Errorf("it ran: %v; warnings: %s", ran, said)
			}
			// Reading and writing each give up after four times the patience, or after twice the
			// patience and the time that the pieces may take.
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestDamagedEntryIsReplaced damages an entry. A build must make the result and upload it again.
func TestDamagedEntryIsReplaced(t *testing.T) {
	registry := registrytest.Start(t)
	st := newResults()
	build(t, st, to(open(t, registry, quick)))
	if registry.Spoil(100<<10) == 0 {
		t.Fatal("nothing to spoil")
	}
	c := open(t, registry, quick)
	if ran, _ := build(t, st, Options{From: from(c).From, To: to(c).To}); !ran {
		t.Fatal("it did not run")
	}
	if ran, said := build(t, st, from(open(t, registry, quick))); ran || said.String() != "" {
		t.Errorf("it ran: %v; warnings: %s", ran, said)
	}
}

func TestReadOnlyRegistries(t *testing.T) {
	for name, fault := range map[string]registrytest.Fault{
		"read-only": registrytest.Answer(http.StatusForbidden, "POST", "PUT", "PATCH"),
		"full":      registrytest.Answer(http.StatusInsufficientStorage, "PUT", "PATCH"),
		"strict":    registrytest.Answer(http.StatusMethodNotAllowed, "POST", "PUT", "PATCH"),
		"no tags":   registrytest.Answer(http.StatusTooManyRequests, "PUT"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := registrytest.Start(t)
			registry.SetFault(fault)
			st := newResults()
			c := open(t, registry, quick)
			_, said := build(t, st, to(c))
			if len(said.text) != 1 || !strings.Contains(said.String(), "does not accept uploads") {
				t.Errorf("warnings: %s", said)
			}
		})
	}
}

// TestRestart restarts the registry during a download, which must continue without a warning.
func TestRestart(t *testing.T) {
	registry := registrytest.Start(t)
	st := newResults()
	build(t, st, to(open(t, registry, RegistryOptions{})))
	var once sync.Once
	registry.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
		if strings.Contains(req.URL.Path, "/blobs/") {
			once.Do(func() {
				go func() {
					registry.Stop()
					registry.Restart()
				}()
				<-req.Context().Done()
			})
		}
		return false
	})
	ran, said := build(t, st, from(open(t, registry, RegistryOptions{Pause: 50 * time.Millisecond})))
	if ran || said.String() != "" {
		t.Errorf("it ran: %v; warnings: %s", ran, said)
	}
}

func TestEightAtOnce(t *testing.T) {
	registry := registrytest.Start(t)
	st := newResults()
	build(t, st, to(open(t, registry, RegistryOptions{})))
	registry.Traffic()
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if ran, said := buildIn(t, dir, st, from(open(t, registry, RegistryOptions{}))); ran || said.String() != "" {
				t.Errorf("it ran: %v; warnings: %s", ran, said)
			}
		})
	}
	group.Wait()
	if out := registry.Traffic().Out; out > 8<<20 {
		t.Errorf("%d bytes were fetched, more than once", out)
	}
}

func TestUnencrypted(t *testing.T) {
	c, err := Registry("192.168.255.254:5000/cache", quick)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Record(t.Context(), strings.Repeat("0", 64)); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("plain http to another computer: %v", err)
	}
}

func TestDamagedDirectory(t *testing.T) {
	dir := t.TempDir()
	st := newResults()
	build(t, st, to(Dir(dir)))
	err := filepath.WalkDir(filepath.Join(dir, "pieces"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Truncate(path, 10)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := Dir(dir)
	if ran, said := build(t, st, Options{From: from(c).From, To: to(c).To}); !ran || !strings.Contains(said.String(), "refused") {
		t.Errorf("it ran: %v; warnings: %s", ran, said)
	}
	if ran, _ := build(t, st, from(Dir(dir))); ran {
		t.Error("what was spoilt is not replaced")
	}
	if _, err := Dir(t.TempDir()).Keys(t.Context()); err == nil || !strings.Contains(err.Error(), "not a cache") {
		t.Errorf("an empty directory: %v", err)
	}
}
