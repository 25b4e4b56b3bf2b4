package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/serials"
	"github.com/sovereign-sql/sov/internal/artifact/taken"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/internal/host/signing"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
)

// A keyPair is a key and its two files.
type keyPair struct {
	private, public string // paths
	key             dsse.PrivateKey
}

func newKeyPair(t *testing.T) (k keyPair) {
	t.Helper()
	dir := t.TempDir()
	k.private, k.public = filepath.Join(dir, "key.pem"), filepath.Join(dir, "key.pub")
	var err error
	if k.key, err = signing.NewKey(k.private, nil); err != nil {
		t.Fatal(err)
	}
	text, err := k.key.Public().PEM()
	if err == nil {
		err = os.WriteFile(k.public, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// cacheKey returns the setting from these files, or from SOV_CACHE_KEY with this text if there are
// none.
func cacheKey(t *testing.T, files []string, text string) settings.Value {
	t.Helper()
	s, err := settings.Load(func(name string) string { return map[string]string{"SOV_CACHE_KEY": text, "HOME": t.TempDir()}[name] })
	if err != nil {
		t.Fatal(err)
	}
	return s.Get(settings.CacheKey, files...)
}

// flag returns the value of a setting that a flag set.
func flag(values []string) settings.Value {
	return settings.Value{Values: values, From: settings.FromFlag, Where: "a flag"}
}

func TestLoadCacheKeys(t *testing.T) {
	a, b := newKeyPair(t), newKeyPair(t)
	other := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(other, []byte(read(t, a.private)), 0o644); err != nil {
		t.Fatal(err)
	}
	sealed := filepath.Join(t.TempDir(), "sealed.pem")
	horse := func(context.Context, string, bool) (string, error) { return "horse", nil }
	if _, err := signing.NewKey(sealed, signing.WithPassphrase(t.Context(), horse, 4)); err != nil {
		t.Fatal(err)
	}
	unseal := signing.Unseal(t.Context(), horse)
	for _, tt := range []struct {
		name  string
		files []string
		env   string
		keys  int
		signs bool
		fails string
	}{
		{"none", nil, "", 0, false, ""},
		{"public keys", []string{a.public, b.public}, "", 2, false, ""},
		{"a private key is trusted too", []string{a.private, b.public}, "", 2, true, ""},
		{"the variable's files", nil, a.public + " " + b.private, 2, true, ""},
		{"the variable's keys", nil, "\n" + read(t, a.private) + "\n" + read(t, b.public), 2, true, ""},
		{"the flag comes first", []string{a.public}, b.private, 1, false, ""},
		{"two that sign", []string{a.private, b.private}, "", 0, false, "two private keys"},
		{"readable by others", []string{other}, "", 0, false, "other users can read"},
		{"no key", []string{os.Args[0]}, "", 0, false, "not in PEM"},
		{"absent", []string{"/absent"}, "", 0, false, "no such file"},
		{"with a passphrase", []string{sealed, b.public}, "", 2, true, ""},
		{"the variable's key with a passphrase", nil, read(t, sealed) + read(t, b.public), 2, true, ""},
		{"more than keys", nil, read(t, a.public) + "x", 0, false, "not a key in PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := LoadCacheKeys(cacheKey(t, tt.files, tt.env), unseal)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want %s", err, tt.fails)
				}
				return
			}
			if err != nil || len(k.trusted) != tt.keys || (k.sign != nil) != tt.signs || (k.Believe() == nil) != (tt.keys == 0) {
				t.Errorf("%d keys, signs %v, %v", len(k.trusted), k.sign != nil, err)
			}
		})
	}
}

// TestSignedCache: one computer fills a shared cache and signs the results. Another computer builds
// from it with the public key.
func TestSignedCache(t *testing.T) {
	w := tinybuild.New(t)
	team, stranger, release := newKeyPair(t), newKeyPair(t), newKeyPair(t)
	dir := t.TempDir()
	to, from := []string{"type=dir,dest=" + dir}, []string{"type=dir,src=" + dir}
	none := func(string) string { return "" }
	lock := filepath.Join(t.TempDir(), "sov.lock")
	run := func(from, to, keys []string, change func(*Options)) (string, *Report, error) {
		t.Helper()
		o := Options{Options: w.Options(t.TempDir(), w.Recipe(tinybuild.WithPostgres)), Sign: &signing.Signer{Key: release.key, Serials: serials.At(filepath.Join(t.TempDir(), "serials.json"))}}
		o.LockPath = lock
		var err error
		if o.Remotes, err = Remotes(flag(from), flag(to), flag(keys), nil, false, none); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(&o)
		}
		report, err := Run(t.Context(), o)
		return filepath.Join(o.Out, "tiny", tinybuild.Arch), report, err
	}
	stages := func(r *Report) (all []string) {
		for _, s := range r.Stages {
			if s.Status == "cached" {
				all = append(all, s.Name+" "+s.Signer)
			}
		}
		return all
	}

	// An unsigned cache can be used if no signature is required.
	if _, _, err := run(nil, to, nil, nil); err != nil {
		t.Fatal(err)
	}
	out, _, err := run(from, nil, nil, nil)
	var unsigned *taken.UnsignedError
	if !errors.As(err, &unsigned) || !strings.Contains(err.Error(), "rootfs from "+dir) || !strings.Contains(err.Error(), "--cache-key") {
		t.Fatalf("signed of an unsigned cache: %v", err)
	}
	for _, r := range unsigned.Results {
		if r.Stage == "base" {
			t.Error("the base image is named, which the lock vouches for")
		}
	}
	if _, err := os.Stat(filepath.Join(out, artifact.SignedFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is signed nevertheless: %v", err)
	}
	if _, _, err := run(from, nil, nil, func(o *Options) { o.AllowUnsigned = true }); err != nil {
		t.Errorf("told to: %v", err)
	}

	// With a key the unsigned results are not used. Signed ones replace them.
	out, report, err := run(from, to, []string{team.private}, nil)
	if err != nil || len(stages(report)) != 0 {
		t.Fatalf("with a key: cached %q, %v", stages(report), err)
	}
	if list, err := taken.Load(out); err != nil || len(list) > 0 {
		t.Errorf("taken: %+v, %v", list, err)
	}
	out, report, err = run(from, nil, []string{stranger.public, team.public}, nil)
	if err != nil || len(stages(report)) != len(report.Stages) {
		t.Fatalf("with the public key: cached %q, %v", stages(report), err)
	}
	list, err := taken.Load(out)
	if err != nil || len(list) != len(report.Stages)-1 {
		t.Errorf("taken: %+v, %v", list, err)
	}
	for _, r := range list {
		if diff := cmp.Diff(taken.Result{Stage: r.Stage, Remote: dir, Signer: team.key.Public().ID()}, r); diff != "" {
			t.Error(diff)
		}
	}
	if _, report, err = run(from, nil, []string{stranger.public}, nil); err != nil || len(stages(report)) != 0 {
		t.Errorf("with a stranger's key: cached %q, %v", stages(report), err)
	}
}
