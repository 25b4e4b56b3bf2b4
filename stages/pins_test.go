package stages_test

import (
	"bytes"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/remote"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// warnings collects the warnings of a build.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) Report(e progress.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Type == progress.EventWarning {
		w.texts = append(w.texts, e.Stage+": "+e.Text)
	}
}

func (w *warnings) Close() error { return nil }

// has returns the number of warnings that contain text.
func (w *warnings) has(text string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.texts {
		if strings.Contains(t, text) {
			n++
		}
	}
	return n
}

// openCache opens the cache of a build.
func openCache(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// poison replaces contents in every record that victim selects, and returns the number of changed
// outputs. spoil returns the new content of an output, or nil to keep it.
func poison(t *testing.T, s *store.Store, victim func(*store.Record) bool, spoil func(name string, content []byte) []byte) (n int) {
	t.Helper()
	records, err := s.Records(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if !victim(r) {
			continue
		}
		for i, o := range r.Outputs {
			f, err := s.Open(o.Blob)
			if err != nil {
				t.Fatal(err)
			}
			var content bytes.Buffer
			_, err = content.ReadFrom(f)
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			changed := spoil(o.Name, content.Bytes())
			if changed == nil {
				continue
			}
			n++
			if r.Outputs[i].Blob, err = s.Put(t.Context(), bytes.NewReader(changed)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// sameLength returns a function that replaces a word with another of the same length.
func sameLength(old, new string) func(string, []byte) []byte {
	return func(_ string, content []byte) []byte {
		if !bytes.Contains(content, []byte(old)) {
			return nil
		}
		return bytes.ReplaceAll(content, []byte(old), []byte(new))
	}
}

// TestPoisonedCache builds with a cache that has other content under the key of a pinned input. The
// cache is this computer's or a shared one. The artifact must not change by one byte, and the build
// must warn.
func TestPoisonedCache(t *testing.T) {
	resultOf := func(stage string) func(*store.Record) bool {
		return func(r *store.Record) bool { return r.Stage == stage && r.Memo == "" }
	}
	memoOf := func(prefix string) func(*store.Record) bool {
		return func(r *store.Record) bool { return strings.HasPrefix(r.Memo, prefix) }
	}
	onlyTars := func(spoil func(string, []byte) []byte) func(string, []byte) []byte {
		return func(name string, content []byte) []byte {
			if !strings.HasSuffix(name, ".tar") || strings.HasPrefix(name, "db") {
				return nil
			}
			return spoil(name, content)
		}
	}
	for _, tt := range []struct {
		name   string
		victim func(*store.Record) bool
		spoil  func(name string, content []byte) []byte
		drop   []string // stages whose results the attacker leaves out, so that memos are used
	}{
		{"a layer as the result of base", resultOf("base"), onlyTars(sameLength("root:x:0:0:root", "evil:x:0:0:root")), nil},
		{"a layer and what image.json says", resultOf("base"), func(name string, content []byte) []byte {
			if name == "image.json" {
				return bytes.Replace(content, []byte("arm64"), []byte("evil6"), 1)
			}
			return onlyTars(sameLength("root:x:0:0:root", "evil:x:0:0:root"))(name, content)
		}, nil},
		{"a layer as a memo", memoOf("layer "), sameLength("root:x:0:0:root", "evil:x:0:0:root"), []string{"base"}},
		{"a package's files as the result of packages", resultOf("packages"), onlyTars(sameLength("initdb", "evildb")), nil},
		{"a package's files as a memo", memoOf("data "), sameLength("initdb", "evildb"), []string{"packages"}},
		{"a package as a memo", memoOf("file "), func(_ string, content []byte) []byte { return append(bytes.Clone(content), 0) }, []string{"packages"}},
	} {
		for _, where := range []string{"shared", "own"} {
			t.Run(tt.name+"/"+where, func(t *testing.T) {
				w := tinybuild.New(t)
				honest := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
				want := tinybuild.Contents(t, w.Build(honest).Dir)

				evil := openCache(t, honest.CacheDir)
				if poison(t, evil, tt.victim, tt.spoil) == 0 {
					t.Fatal("nothing was poisoned")
				}
				victim := honest
				victim.Out = filepath.Join(t.TempDir(), "out")
				var said warnings
				victim.Reporter = &said
				for _, r := range recordsOf(t, evil) {
					// Later results depend on the poisoned content. The attacker may have replaced
					// them too.
					if slices.Contains(tt.drop, r.Stage) && r.Memo == "" {
						removeRecord(t, evil, r.Key)
					}
				}
				if where == "shared" {
					shared := remote.Dir(t.TempDir())
					if _, err := remote.Push(t.Context(), evil, shared, remote.TransferOptions{}); err != nil {
						t.Fatal(err)
					}
					victim.CacheDir = t.TempDir()
					victim.Remotes = remote.Options{From: []remote.Cache{shared}}
				}
				result := w.Build(victim)
				if got := tinybuild.Contents(t, result.Dir); !maps.Equal(got, want) {
					t.Error("the artifact is another")
				}
				if said.has("does not match the pinned digest") == 0 {
					t.Errorf("no warning about it: %q", said.texts)
				}
				// Discarded content must not return.
				said.texts = nil
				again := w.Build(victim)
				if ran := tinybuild.Ran(again); len(ran) > 0 || said.has("pinned") > 0 {
					t.Errorf("again: ran %q, warns %q", ran, said.texts)
				}
			})
		}
	}
}

func recordsOf(t *testing.T, s *store.Store) []*store.Record {
	t.Helper()
	records, err := s.Records(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// removeRecord removes one record from a store.
func removeRecord(t *testing.T, s *store.Store, key string) {
	t.Helper()
	keep := []string{}
	for _, r := range recordsOf(t, s) {
		if r.Key != key {
			keep = append(keep, r.Key)
		}
	}
	if _, err := s.Prune(t.Context(), store.PruneOptions{All: true, Keep: keep}); err != nil {
		t.Fatal(err)
	}
}

// withoutDigests removes from a lock the digests, which older versions of sov did not write.
func withoutDigests(lock string) string {
	return regexp.MustCompile(`, sha256: "[0-9a-f]{64}", files: "[0-9a-f]{64}"`).ReplaceAllString(lock, "")
}

// TestLockOfOlderVersion builds with a lock that lacks the digests of packages. Whatever a cache
// holds, the artifact is the same, and the lock receives the digests without a change of a pin.
func TestLockOfOlderVersion(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	want := tinybuild.Contents(t, w.Build(o).Dir)
	complete := tinybuild.ReadFile(t, o.LockPath)
	old := withoutDigests(complete)
	if old == complete || strings.Count(complete, "sha256: ") != 2 {
		t.Fatalf("the lock has no digests:\n%s", complete)
	}
	cache := openCache(t, o.CacheDir)
	for name, victim := range map[string]func(*store.Record) bool{
		"good":   func(*store.Record) bool { return false },
		"result": func(r *store.Record) bool { return r.Stage == "packages" && r.Memo == "" },
		"memo":   func(r *store.Record) bool { return strings.HasPrefix(r.Memo, "data ") },
	} {
		t.Run(name, func(t *testing.T) {
			poison(t, cache, victim, sameLength("initdb", "evildb"))
			w.Write(o.LockPath, []byte(old))
			result := w.Build(o)
			if got := tinybuild.Contents(t, result.Dir); !maps.Equal(got, want) || !result.LockWritten {
				t.Errorf("the same artifact: %v, lock written: %v", maps.Equal(got, want), result.LockWritten)
			}
			if got := tinybuild.ReadFile(t, o.LockPath); got != complete {
				t.Errorf("the lock is now\n%s\nwant\n%s", got, complete)
			}
			if again := w.Build(o); again.LockWritten || len(tinybuild.Ran(again)) > 0 {
				t.Errorf("again: lock written %v, ran %q", again.LockWritten, tinybuild.Ran(again))
			}
		})
	}
}

// TestResignedPackage builds after the repository has signed its packages again, with a longer
// signature. The content of the packages is the same. Artifact and bundle must not change, from an
// empty cache and from the bundle.
func TestResignedPackage(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	want := tinybuild.Contents(t, w.Build(o).Dir)
	write := func(o resolve.Options) (path, content string) {
		t.Helper()
		path = filepath.Join(t.TempDir(), "tiny.sovbundle")
		if _, err := offlinebundle.Write(t.Context(), o, path, nil); err != nil {
			t.Fatal(err)
		}
		return path, tinybuild.ReadFile(t, path)
	}
	_, before := write(o.Options)
	sizes := func() (n int) {
		for _, content := range w.Packages {
			n += len(content)
		}
		return n
	}
	size := sizes()
	w.SignAgain()
	if sizes() == size {
		t.Fatal("the packages have the size that they had")
	}
	o.CacheDir = t.TempDir()
	if got := tinybuild.Contents(t, w.Build(o).Dir); !maps.Equal(got, want) {
		t.Error("of packages that were signed again it is another artifact")
	}
	path, after := write(o.Options)
	if before != after {
		t.Error("of packages that were signed again it is another bundle")
	}
	there := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	there.Bundle, there.Offline = path, true
	if got := tinybuild.Contents(t, w.Build(there).Dir); !maps.Equal(got, want) {
		t.Error("from the bundle it is another artifact")
	}
}

// TestPackagesOfOlderVersion uses caches and bundles of older versions, which hold packages with
// their signature. They suffice after the repository has dropped the packages.
func TestPackagesOfOlderVersion(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	want := tinybuild.Contents(t, w.Build(o).Dir)
	path := filepath.Join(t.TempDir(), "new.sovbundle")
	if _, err := offlinebundle.Write(t.Context(), o.Options, path, nil); err != nil {
		t.Fatal(err)
	}
	signed := func(content []byte) []byte {
		for _, file := range w.Packages {
			if bytes.HasSuffix(file, content) && len(file) > len(content) {
				return file
			}
		}
		t.Fatal("a package is not in the repository")
		return nil
	}

	cache := openCache(t, o.CacheDir)
	isFile := func(r *store.Record) bool { return strings.HasPrefix(r.Memo, "file ") }
	if poison(t, cache, isFile, func(_ string, content []byte) []byte { return signed(content) }) != 2 {
		t.Fatal("the packages are not in the cache")
	}
	for _, r := range recordsOf(t, cache) {
		if r.Stage == "packages" && r.Memo == "" {
			removeRecord(t, cache, r.Key)
		}
	}
	files := w.Packages
	w.Packages = map[string][]byte{}
	w.Write(o.LockPath, []byte(withoutDigests(tinybuild.ReadFile(t, o.LockPath))))
	var said warnings
	o.Reporter = &said
	if got := tinybuild.Contents(t, w.Build(o).Dir); !maps.Equal(got, want) || said.has("pinned") > 0 {
		t.Errorf("from the cache: the same artifact: %v, warnings %q", maps.Equal(got, want), said.texts)
	}

	w.Packages = files
	bundle, err := offline.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer bundle.Close()
	old, contents := bundle.Index, map[string][]byte{}
	old.Items = slices.Clone(old.Items)
	for i, item := range old.Items {
		body, _, err := bundle.Open(item.Kind, item.Name)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			t.Fatal(err)
		}
		switch item.Kind {
		case offline.Package:
			content = signed(content)
		case offline.Lock:
			content = []byte(withoutDigests(string(content)))
		}
		old.Items[i].Size, old.Items[i].SHA256 = int64(len(content)), store.DigestOf(content).Hex()
		contents[old.Items[i].SHA256] = content
	}
	w.Packages = map[string][]byte{}
	var b bytes.Buffer
	err = offline.Write(&b, &old, func(i offline.Item) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(contents[i.SHA256])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	there := w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres))
	there.Bundle, there.Offline = filepath.Join(t.TempDir(), "old.sovbundle"), true
	w.Write(there.Bundle, b.Bytes())
	if got := tinybuild.Contents(t, w.Build(there).Dir); !maps.Equal(got, want) {
		t.Error("from the bundle it is another artifact")
	}
}
