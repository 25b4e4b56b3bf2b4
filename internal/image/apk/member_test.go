package apk

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

const testKeyName = "tester-1234.rsa.pub"

// sign puts a signature member before data.
func sign(t testing.TB, key *rsa.PrivateKey, scheme string, signed, data []byte) []byte {
	t.Helper()
	hash := signatureHash[scheme]
	h := hash.New()
	h.Write(signed)
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, hash, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return append(gzipTar(t, true, tarFile(".SIGN."+scheme+"."+testKeyName, string(sig))), data...)
}

func testKey(t testing.TB) (*rsa.PrivateKey, Keys) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key, Keys{testKeyName: &key.PublicKey}
}

func TestReadIndex(t *testing.T) {
	key, keys := testKey(t)
	_, others := testKey(t)
	packages := testPackages(t, "a-1 D:b>=2; p:so:a=1; i:x y; k:3; t:1700000000; o:origin", "b-2")
	plain := indexFile(t, packages)
	for _, scheme := range []string{"RSA", "RSA256", "RSA512"} {
		index, err := ReadIndex(bytes.NewReader(sign(t, key, scheme, plain, plain)), keys)
		if err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		if len(index.Packages) != 2 || index.Key != testKeyName || index.Description != "test" {
			t.Errorf("%s: got %+v", scheme, index)
		}
		var got, want strings.Builder
		index.Packages[0].writeFields(&got)
		packages[0].writeFields(&want)
		if got.String() != want.String() {
			t.Errorf("%s: package came back as\n%swant\n%s", scheme, &got, &want)
		}
	}
	signed := sign(t, key, "RSA256", plain, plain)
	for _, tc := range []struct {
		name string
		data []byte
		keys Keys
		want string
	}{
		{"unsigned", plain, keys, "is not signed"},
		{"unknown key", signed, Keys{"other": keys[testKeyName]}, "not among the trusted keys (other)"},
		{"no keys at all", signed, Keys{}, "there are none"},
		{"another's key of that name", signed, others, "damaged or tampered with"},
		{"truncated", signed[:len(signed)-5], nil, "unexpected EOF"},
		{"not gzip", []byte("<html>"), nil, "gzip"},
		{"empty", nil, nil, "unexpected EOF"},
		{"something behind it", append(bytes.Clone(plain), "x"...), nil, "unexpected EOF"},
		{"no APKINDEX", gzipTar(t, false, tarFile("x", "y")), nil, "no APKINDEX"},
		{"no name", gzipTar(t, false, tarFile("APKINDEX", "V:1\n")), nil, "without a name"},
		{"path as name", gzipTar(t, false, tarFile("APKINDEX", "P:../x\n")), nil, "line 1: field P"},
		{"bad checksum", gzipTar(t, false, tarFile("APKINDEX", "P:x\nV:1\nC:Q1xx\n")), nil, "line 3: field C"},
	} {
		_, err := ReadIndex(bytes.NewReader(tc.data), tc.keys)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
		}
	}
	if _, err := ReadIndex(bytes.NewReader(plain), nil); err != nil {
		t.Errorf("unsigned, without keys: %v", err)
	}
}

// TestIndexWithUnusablePackage reads an index with an entry in an unknown syntax. The other
// packages must stay usable.
func TestIndexWithUnusablePackage(t *testing.T) {
	text := "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:odd\nV:1\nD:foo@tag\n\nC:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAE=\nP:good\nV:1\n\n"
	index, err := ReadIndex(bytes.NewReader(gzipTar(t, false, tarFile("APKINDEX", text))), nil)
	if err != nil {
		t.Fatal(err)
	}
	repos := []*Repository{{Index: index}}
	if _, err := Solve(Request{World: []Dep{{Name: "good"}}, Repositories: repos}); err != nil {
		t.Error(err)
	}
	_, err = Solve(Request{World: []Dep{{Name: "odd"}}, Repositories: repos})
	if err == nil || !strings.Contains(err.Error(), "odd-1 cannot be used") {
		t.Errorf("error %v, want one that says why odd cannot be used", err)
	}
}

// TestSignatureMemberWithTime accepts a time in a signature member's gzip header, which Alpine's
// indexes of 2016 have.
func TestSignatureMemberWithTime(t *testing.T) {
	key, keys := testKey(t)
	plain := indexFile(t, testPackages(t, "a-1"))
	signed := sign(t, key, "RSA", plain, plain)
	copy(signed[gzipTime:gzipEffort], "\x52\x0a\x54\x57")
	if _, err := ReadIndex(bytes.NewReader(signed), keys); err != nil {
		t.Errorf("index: %v", err)
	}
	file, keys, sum := signedPackage(t)
	copy(file[gzipTime:gzipEffort], "\x52\x0a\x54\x57")
	if err := checkPackage(file, keys, sum); err != nil {
		t.Errorf("package: %v", err)
	}
}

func TestNewestOfIndex(t *testing.T) {
	index := &Index{Packages: testPackages(t, "a-1 t:1700000000", "b-1 t:1600000000", "c-1")}
	if got := index.Newest().Unix(); got != 1700000000 {
		t.Errorf("got %d", got)
	}
	if !(&Index{}).Newest().IsZero() {
		t.Error("an empty index has a time")
	}
}

func TestIndexFlippedBits(t *testing.T) {
	key, keys := testKey(t)
	plain := indexFile(t, testPackages(t, "a-1 D:b"))
	good := sign(t, key, "RSA256", plain, plain)
	eachFlip(good, func(at int, bad []byte) {
		if _, err := ReadIndex(bytes.NewReader(bad), keys); err == nil {
			t.Errorf("a flipped bit in byte %d of %d goes unnoticed", at, len(good))
		}
	})
}

// eachFlip calls fn with a copy of good for each flipped bit. It leaves out the time in the header
// of the first member, the signature's.
func eachFlip(good []byte, fn func(at int, bad []byte)) {
	for i := range good {
		if gzipTime <= i && i < gzipEffort {
			continue
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			fn(i, bad)
		}
	}
}

// signedPackage returns a small package, the keys of its signature and its checksum.
func signedPackage(t testing.TB) ([]byte, Keys, Checksum) {
	t.Helper()
	key, keys := testKey(t)
	file := testPkg{name: "p", version: "1.2-r3", info: "depend = so:x\ntriggers = /a /b", scripts: map[string]string{"post-install": "#!/bin/sh\n", "trigger": "t"},
		files: entries("usr/", "usr/f: content")}.build(t)
	f, err := OpenPackage(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, key, "RSA", file[:f.controlAt.end], file), keys, f.Info().Checksum
}

func checkPackage(data []byte, keys Keys, want Checksum) error {
	f, err := OpenPackage(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	if err := f.Verify(keys, want); err != nil {
		return err
	}
	return f.DataTar(io.Discard)
}

func TestOpenPackage(t *testing.T) {
	file, keys, sum := signedPackage(t)
	f, err := OpenPackage(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Verify(keys, sum); err != nil {
		t.Error(err)
	}
	if f.Info().ID() != "p-1.2-r3" || f.Info().Size != int64(len(file)) || formatDeps(f.Info().Depends) != "so:x" {
		t.Errorf("got %+v", f.Info())
	}
	if got := strings.Join(f.Scripts(), " "); got != "post-install trigger" {
		t.Errorf("scripts %q", got)
	}
	if got := strings.Join(f.Control().Triggers, " "); got != "/a /b" {
		t.Errorf("triggers %q", got)
	}
	control := file[f.controlAt.offset:f.controlAt.end]
	if want := SHA1Checksum(sha1.Sum(control)); f.Info().Checksum != want {
		t.Errorf("checksum %s, want %s", f.Info().Checksum, want)
	}
	if err := f.Verify(nil, SHA256Checksum(sha256.Sum256(control))); err != nil {
		t.Errorf("with a Q2 checksum: %v", err)
	}
	for name, bad := range map[string]error{
		"another checksum": f.Verify(nil, SHA1Checksum(sha1.Sum(nil))),
		"no key":           f.Verify(Keys{}, sum),
	} {
		if bad == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestPackageFlippedBits(t *testing.T) {
	file, keys, sum := signedPackage(t)
	eachFlip(file, func(at int, bad []byte) {
		if err := checkPackage(bad, keys, sum); err == nil {
			t.Errorf("a flipped bit in byte %d of %d goes unnoticed", at, len(file))
		}
	})
}

func TestPackageTruncated(t *testing.T) {
	file, keys, sum := signedPackage(t)
	for n := range file {
		if err := checkPackage(file[:n], keys, sum); err == nil {
			t.Errorf("the first %d of %d bytes are accepted", n, len(file))
		}
	}
	if err := checkPackage(append(bytes.Clone(file), 0), keys, sum); err == nil {
		t.Error("a byte too many is accepted")
	}
}

func TestPackageBomb(t *testing.T) {
	bomb := testFile("big: ").entry()
	bomb.body = strings.Repeat("\x00", dataAllowance+5*4096)
	bomb.Size = int64(len(bomb.body))
	file := testPkg{name: "bomb", version: "1", files: []tarEntry{bomb}}.build(t)
	if err := checkPackage(file, nil, ""); err == nil || !strings.Contains(err.Error(), "out of proportion") {
		t.Errorf("%d bytes that become %d: error %v", len(file), bomb.Size, err)
	}
	if _, err := readMember(bytes.NewReader(file), 0, int64(len(file)), bound.Limit{Bytes: 10, Free: 10}); err == nil {
		t.Error("a member beyond its limit is accepted")
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add(indexFile(f, testPackages(f, "a-1 D:b; p:c=1")))
	f.Add(gzipTar(f, true, tarFile(".SIGN.RSA.k", "x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer costtest.Text.Watch(t, len(data))()
		index, err := ReadIndex(bytes.NewReader(data), nil)
		if err != nil {
			return
		}
		for _, p := range index.Packages {
			if p.Name == "" || p.Checksum == "" {
				t.Errorf("package without name or checksum: %+v", p)
			}
			Solve(Request{World: []Dep{{Name: p.Name}}, Repositories: []*Repository{{Index: index}}})
		}
	})
}

func FuzzIndexText(f *testing.F) {
	f.Add("C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:1\nD:b !c>1 d~2\np:so:x=1 y\ni:e f\nk:3\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		defer costtest.Text.Watch(t, len(text))()
		packages, err := parseIndex(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range packages {
			s, err := Solve(Request{World: []Dep{{Name: p.Name}}, Repositories: []*Repository{{Index: &Index{Packages: packages}}}})
			if err != nil && !errors.As(err, new(*Unsatisfiable)) || err == nil && len(s.Packages) == 0 {
				t.Errorf("%s: %v, %v", p.ID(), s, err)
			}
		}
	})
}

func FuzzOpenPackage(f *testing.F) {
	f.Add(testPkg{name: "p", version: "1", files: entries("f: x")}.build(f))
	f.Add(gzipTar(f, true, tarFile(".SIGN.RSA.k", "x"), tarFile(".SIGN.RSA256.k", "y")))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer costtest.Text.Watch(t, len(data))()
		p, err := OpenPackage(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		p.Verify(nil, "")
		p.DataTar(io.Discard)
	})
}
