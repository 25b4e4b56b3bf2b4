package kernel

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	guest "github.com/sovereign-sql/sov/kernel"
	blobs "github.com/sovereign-sql/sov/pipeline/store"
)

// kernelMakefile builds a kernel by decoding Kbuild, which contains it in base64.
const kernelMakefile = makefileHead + "allnoconfig:\n\t@cp $(KCONFIG_ALLCONFIG) .config\n" +
	"\t@printf 'CONFIG_ARM_GIC_V3=y\\nCONFIG_ARM_PSCI_FW=y\\nCONFIG_ARM_ARCH_TIMER=y\\n' >> .config\n" +
	"Image:\n\t@mkdir -p arch/arm64/boot\n\t@base64 -d Kbuild > arch/arm64/boot/Image\n"

// change applies fn to those records of a store that pick selects.
func change(t *testing.T, s *blobs.Store, pick func(*blobs.Record) bool, fn func(*blobs.Record)) {
	t.Helper()
	records, err := s.Records(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range records {
		if pick(r) {
			n++
			fn(r)
			if err := s.Save(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n == 0 {
		t.Fatal("there is no such record")
	}
}

// TestPoisonedSource builds with a cache that has another archive under the name of the pinned one.
func TestPoisonedSource(t *testing.T) {
	buildTools(t, "arm64")
	source := func(kernel []byte) []byte {
		return sourceTar(t, map[string]string{"Kbuild": base64.StdEncoding.EncodeToString(kernel), "Makefile": kernelMakefile})
	}
	good := image(t, goodConfig("arm64"))
	path := write(t, "linux.tar", source(good))
	o := Options{Arch: "arm64", Source: locked(t, path)}
	s := store(t)
	made, err := runStage(t, t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	evil, err := s.Put(t.Context(), bytes.NewReader(source(append(slices.Clone(good), "evil"...))))
	if err != nil {
		t.Fatal(err)
	}
	change(t, s, func(r *blobs.Record) bool { return strings.HasPrefix(r.Memo, "source ") }, func(r *blobs.Record) { r.Outputs[0].Blob = evil })
	change(t, s, func(r *blobs.Record) bool { return r.Memo == "" }, func(r *blobs.Record) { r.Outputs[0].Size++ }) // makes the stage run
	again, err := runStage(t, t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made.Outputs, again.Outputs); diff != "" {
		t.Errorf("another kernel was built (-locked +poisoned)\n%s", diff)
	}
}

// TestKernelOfAnotherVersion rejects a kernel with another version than the lock's.
func TestKernelOfAnotherVersion(t *testing.T) {
	buildTools(t, "arm64")
	old := bytes.Replace(image(t, goodConfig("arm64")), []byte("6.1.7-sov"), []byte("6.1.6-sov"), 1)
	path := write(t, "linux.tar", sourceTar(t, map[string]string{"Kbuild": base64.StdEncoding.EncodeToString(old), "Makefile": kernelMakefile}))
	o := Options{Arch: "arm64", Source: locked(t, path)}
	s := store(t)
	if _, err := runStage(t, t.Context(), s, o); err == nil || !strings.Contains(err.Error(), "6.1.6-sov") {
		t.Errorf("a kernel that says it is another than its source: %v", err)
	}
}

// TestOlderRelease rejects an older release at a release's address, although its signature is
// valid.
func TestOlderRelease(t *testing.T) {
	plain := sourceTar(t, map[string]string{"Makefile": makefileHead}) // 6.1.7
	keys, signature := sign(t, plain)
	client := kernelOrg(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, ".sign") {
			_, _ = w.Write(signature)
		} else {
			_, _ = w.Write(xz(t, plain))
		}
	})
	r := &resolver{store: store(t), patience: time.Minute, get: getter{fetch: client, tools: Options{Path: noTools(t)}.toolchain()},
		verify: func(plain io.Reader, signature []byte) error { return verifyWith(keys, plain, signature) }}
	got, err := r.first(t.Context())
	if !errors.Is(err, ErrOtherVersion) || !strings.Contains(err.Error(), "6.1.7") || !strings.Contains(err.Error(), guest.Version) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// FuzzMakefileVersion checks versions and errors, which become part of names, locks and messages.
func FuzzMakefileVersion(f *testing.F) {
	for _, text := range []string{
		makefileHead, "VERSION=../../x\nPATCHLEVEL=1\n", "VERSION=6\nPATCHLEVEL=1\nEXTRAVERSION=/../../x\n",
		"VERSION=6\nPATCHLEVEL=\x1b[2J1\n", "VERSION=6\nPATCHLEVEL=1\nEXTRAVERSION=-rc1\x1b]0;x\x07\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		version, err := makefileVersion(text)
		if err != nil {
			if len(err.Error()) > 500 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("the error is not for a terminal: %q", err)
			}
			return
		}
		if len(version) > 100 || strings.Trim(version, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+~_-") != "" {
			t.Errorf("version %q", version)
		}
	})
}
