package remote

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A signer is a test key that is derived from a number.
type signer ed25519.PrivateKey

func newSigner(n byte) signer {
	return signer(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(n)), ed25519.SeedSize))))
}

func (s signer) id() string { return fmt.Sprintf("%x", s[32:36]) }

// trusting accepts signatures of keys and signs with sign, unless sign is nil.
func trusting(sign signer, keys ...signer) Trust {
	t := Trust{Verify: func(text, signature []byte) (string, error) {
		for _, k := range keys {
			if ed25519.Verify(ed25519.PublicKey(k[32:]), text, signature) {
				return k.id(), nil
			}
		}
		return "", errors.New("another key")
	}}
	if sign != nil {
		t.Sign = func(text []byte) ([]byte, error) { return ed25519.Sign(ed25519.PrivateKey(sign), text), nil }
	}
	return t
}

// believing is Options.Believe for records that one of these keys has signed.
func believing(keys ...signer) func(*store.Record) error {
	return func(r *store.Record) error {
		for _, k := range keys {
			if r.Signer == k.id() {
				return nil
			}
		}
		if r.TakenFrom() == "" {
			return nil
		}
		return ErrUnsigned
	}
}

// A sharing is a shared cache in a folder, which computers with a store each use.
type sharing struct {
	t   *testing.T
	dir string
}

// build builds stages on a computer with the store local, and returns the result and the warnings.
func (s sharing) build(local *store.Store, from, to *PieceCache, believe func(*store.Record) error, stages ...pipeline.Stage) (*pipeline.Result, []string) {
	s.t.Helper()
	var warned []string
	o := Options{Warn: func(_, text string) { warned = append(warned, text) }, Believe: believe}
	if from != nil {
		o.From = []Cache{from}
	}
	if to != nil {
		o.To = []Target{{Cache: to, Max: true}}
	}
	w := Wrap(context.Background(), local, o)
	return mustBuild(s.t, &pipeline.Engine{Store: w}, stages...), warned
}

// evil returns a stage with the name and key of the honest one and another output.
func evil(honest *testStage) *testStage {
	return &testStage{name: honest.name, needs: honest.needs, key: honest.key, run: func(_ context.Context, j *pipeline.Job) error {
		_, err := j.Write("out", []byte("evil"))
		return err
	}}
}

// TestForgedRecords replaces a stage's result in a shared cache, as an attacker with write access
// can. If keys are required, a build uses only results that one of them has signed.
func TestForgedRecords(t *testing.T) {
	one, two, stranger := newSigner(1), newSigner(2), newSigner(3)
	for _, tt := range []struct {
		name  string
		put   Trust // of the computer that fills the cache
		trust Trust
		taken bool
		by    string
	}{
		{"no key is configured", Trust{}, Trust{}, true, ""},
		{"unsigned", Trust{}, trusting(nil, one, two), false, ""},
		{"signed by a stranger", trusting(stranger, stranger), trusting(nil, one, two), false, ""},
		{"signed by the first key", trusting(one, one), trusting(nil, one, two), true, one.id()},
		{"signed by the second key", trusting(two, two), trusting(nil, one, two), true, two.id()},
		{"signed, without a required signature", trusting(one, one), Trust{}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sharing{t, t.TempDir()}
			stage, second := writes("work", "honest"), writes("more", "honest too")
			s.build(openStore(t, t.TempDir()), nil, Dir(s.dir).Trusting(tt.put), nil, evil(stage), evil(second))
			local := openStore(t, t.TempDir())
			res, warned := s.build(local, Dir(s.dir).Trusting(tt.trust), nil, nil, stage, second)
			want, warnings := "honest", 1
			if tt.taken {
				want, warnings = "evil", 0
			}
			if got := content(t, local, res, "work", "out"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if len(warned) != warnings || warnings > 0 && !strings.Contains(warned[0], "not signed by a trusted key") {
				t.Errorf("warnings: %q", warned)
			}
			if st := res.Stage("work"); tt.taken != (st.From == s.dir) || st.Signer != tt.by {
				t.Errorf("taken from %q, signed by %q", st.From, st.Signer)
			}
		})
	}
}

// TestMovedSignature puts the valid signature of one record under another key, and with other
// outputs.
func TestMovedSignature(t *testing.T) {
	key := newSigner(1)
	s := sharing{t, t.TempDir()}
	stage := writes("work", "honest")
	s.build(openStore(t, t.TempDir()), nil, Dir(s.dir).Trusting(trusting(key, key)), nil, stage)
	s.build(openStore(t, t.TempDir()), nil, Dir(filepath.Join(s.dir, "evil")), nil, evil(stage))
	read := func(pattern string) (path string, x index) {
		t.Helper()
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		b, err := os.ReadFile(found[0])
		if err == nil {
			err = json.Unmarshal(b, &x)
		}
		if err != nil {
			t.Fatal(err)
		}
		return found[0], x
	}
	path, good := read(filepath.Join(s.dir, "index", "*.json"))
	_, bad := read(filepath.Join(s.dir, "evil", "index", "*.json"))
	bad.Signature = good.Signature
	forged, err := bad.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, forged, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(s.dir, "pieces"), os.DirFS(filepath.Join(s.dir, "evil", "pieces"))); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	local := openStore(t, t.TempDir())
	res, warned := s.build(local, Dir(s.dir).Trusting(trusting(nil, key)), nil, nil, stage)
	if got := content(t, local, res, "work", "out"); got != "honest" || len(warned) != 1 {
		t.Errorf("got %q, warnings %q", got, warned)
	}
	// Without verification the forged record is used.
	local = openStore(t, t.TempDir())
	if res, _ := s.build(local, Dir(s.dir), nil, nil, stage); content(t, local, res, "work", "out") != "evil" {
		t.Error("the forged record is not one that could be taken")
	}
}

// TestUnsignedPast checks results that were fetched before a key was set. With a key they are made
// again, and never signed and pushed. Unsigned results in the target are replaced.
func TestUnsignedPast(t *testing.T) {
	key := newSigner(1)
	s := sharing{t, t.TempDir()}
	stage := writes("work", "honest")
	s.build(openStore(t, t.TempDir()), nil, Dir(s.dir), nil, evil(stage))
	local := openStore(t, t.TempDir())
	s.build(local, Dir(s.dir), nil, nil, stage)

	pushed := Dir(t.TempDir()).Trusting(trusting(key, key))
	res, err := Push(t.Context(), local, pushed, TransferOptions{Believe: believing(key)})
	if err != nil || len(res.Refused) != 1 {
		t.Errorf("pushed: %+v, %v", res, err)
	}
	if keys, _ := pushed.Keys(t.Context()); len(keys) != 0 {
		t.Errorf("sent on: %q", keys)
	}

	trusted := Dir(s.dir).Trusting(trusting(key, key))
	built, _ := s.build(local, trusted, trusted, believing(key), stage)
	if got := content(t, local, built, "work", "out"); got != "honest" || built.Stage("work").From != "" {
		t.Errorf("got %q from %q", got, built.Stage("work").From)
	}
	other := openStore(t, t.TempDir())
	again, warned := s.build(other, Dir(s.dir).Trusting(trusting(nil, key)), nil, believing(key), stage)
	if st := again.Stage("work"); st.Status != pipeline.Cached || st.Signer != key.id() || len(warned) > 0 {
		t.Errorf("elsewhere: %+v, warnings %q", st, warned)
	}
	// The record is accepted from now on without the cache.
	if res, _ := s.build(other, nil, nil, believing(key), stage); res.Stage("work").Status != pipeline.Cached {
		t.Error("what was signed is made again")
	}
	// Pull takes signed records only.
	third := openStore(t, t.TempDir())
	pulled, err := Pull(t.Context(), third, Dir(s.dir).Trusting(trusting(nil, newSigner(9))), TransferOptions{})
	if err != nil || pulled.Entries != 0 || len(pulled.Refused) != 1 {
		t.Errorf("pulled: %+v, %v", pulled, err)
	}
}

// TestBorrowedMemo builds a stage from a memo of a remote cache. The record must name the cache.
func TestBorrowedMemo(t *testing.T) {
	s := sharing{t, t.TempDir()}
	memo := func(text string) *testStage {
		return &testStage{name: "work", key: func(k *pipeline.Key, _ pipeline.Inputs) error { k.Add("text", text); return nil },
			run: func(ctx context.Context, j *pipeline.Job) error {
				b, err := j.Memo(ctx, "the same", func(w *pipeline.Writer) error { _, err := w.Write([]byte("memo")); return err })
				if err == nil {
					err = j.Attach("out", b)
				}
				return err
			}}
	}
	s.build(openStore(t, t.TempDir()), nil, Dir(s.dir), nil, memo("there"))
	res, _ := s.build(openStore(t, t.TempDir()), Dir(s.dir), nil, nil, memo("here"))
	if st := res.Stage("work"); st.Status != pipeline.Built || st.From != s.dir {
		t.Errorf("%s, from %q", st.Status, st.From)
	}
}
