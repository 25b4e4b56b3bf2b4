package kernel

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/kconfig"
	guest "github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// goodConfig returns a configuration that meets the requirements.
func goodConfig(arch string) string {
	var b strings.Builder
	for _, r := range guest.Requirements(arch, guest.AllFeatures) {
		fmt.Fprintf(&b, "CONFIG_%s=y\n", r.Option)
	}
	return b.String()
}

func compressed(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// image returns an arm64 Image with this configuration, or without one if config is empty.
func image(t *testing.T, config string) []byte {
	t.Helper()
	b := make([]byte, 64)
	copy(b[56:], "ARM\x64")
	b = append(b, "Linux version 6.1.7-sov (sov@sov)\x00"...)
	if config != "" {
		b = append(b, "IKCFG_ST"...)
		b = append(b, compressed(t, []byte(config))...)
		b = append(b, "IKCFG_ED"...)
	}
	return b
}

func runStage(t *testing.T, ctx context.Context, s *pipeline.Store, o Options) (*pipeline.StageResult, error) {
	t.Helper()
	result, err := (&pipeline.Engine{Store: s}).Build(ctx, []pipeline.Stage{New(o)})
	if err != nil {
		return nil, err
	}
	return result.Stage(Name), nil
}

func content(t *testing.T, s *pipeline.Store, b pipeline.Blob) []byte {
	t.Helper()
	f, err := s.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPrebuilt(t *testing.T) {
	raw := image(t, goodConfig("arm64"))
	for name, file := range map[string][]byte{"Image": raw, "Image.gz": compressed(t, raw)} {
		t.Run(name, func(t *testing.T) {
			s := store(t)
			st, err := runStage(t, t.Context(), s, Options{Arch: "arm64", Prebuilt: write(t, name, file)})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string][]byte{}
			for _, o := range st.Outputs {
				got[o.Name] = content(t, s, o.Blob)
			}
			if !bytes.Equal(got[ImageOutput], raw) {
				t.Error("the kernel is not the raw image")
			}
			if string(got[ConfigOutput]) != goodConfig("arm64") {
				t.Errorf("config %q", got[ConfigOutput])
			}
			var info Info
			if err := json.Unmarshal(got[InfoOutput], &info); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Info{Release: "6.1.7-sov", Arch: "arm64"}, info); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPrebuiltRefused(t *testing.T) {
	without := strings.Replace(goodConfig("arm64"), "CONFIG_SYSVIPC=y\n", "", 1)
	tests := []struct {
		name, arch string
		image      []byte
		want       string
	}{
		{"no SYSVIPC", "arm64", image(t, without), "CONFIG_SYSVIPC is not set. initdb and PostgreSQL always make one System V shared memory segment"},
		{"what to do", "arm64", image(t, without), "leave out --kernel"},
		{"other architecture", "amd64", image(t, goodConfig("arm64")), "is for arm64, and the build for amd64"},
		{"no configuration", "arm64", image(t, ""), "built without CONFIG_IKCONFIG; without it sov cannot check"},
		{"no kernel", "arm64", []byte("hello"), "not a kernel image"},
	}
	// The kernel does not need options for features that the machine does not have.
	without = strings.NewReplacer("CONFIG_TUN=y\n", "", "CONFIG_DM_CRYPT=y\n", "", "CONFIG_SYSVIPC=y\n", "").Replace(goodConfig("arm64"))
	if _, err := runStage(t, t.Context(), store(t), Options{Arch: "arm64", Prebuilt: write(t, "Image", image(t, without))}); err != nil {
		t.Error(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := runStage(t, t.Context(), store(t), Options{Arch: tt.arch, Prebuilt: write(t, "Image", tt.image), Features: guest.AllFeatures})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestMissingTools(t *testing.T) {
	err := Options{Arch: "amd64", Path: t.TempDir()}.toolchain().check(t.Context())
	var missing *MissingToolsError
	if !errors.As(err, &missing) {
		t.Fatalf("no tools: %v", err)
	}
	for _, want := range []string{"make", "gcc", "flex", "bison", "bc", "xz", "gelf.h"} {
		if !slices.Contains(missing.Tools, want) {
			t.Errorf("%s is not named", want)
		}
	}
	if !strings.Contains(err.Error(), "apt-get install -y --no-install-recommends bc binutils bison flex gcc") {
		t.Errorf("no line for apt: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	for _, name := range []string{"CFLAGS", "KCFLAGS", "MAKEFLAGS", "ARCH", "CROSS_COMPILE", "KBUILD_BUILD_USER", "LANG", "HOME"} {
		t.Setenv(name, "/poison")
	}
	for _, v := range (Options{Arch: "arm64"}).toolchain().environment() {
		if strings.Contains(v, "poison") {
			t.Errorf("the build sees %s", v)
		}
	}
}

// TestFolders uses a $PATH with folders in and above the user's home. Of these a build may see only
// bin.
func TestFolders(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", filepath.Join(home, "user"))
	bin := filepath.Join(home, "user", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	path := strings.Join([]string{"/", home, filepath.Join(home, "user"), bin, "relative", filepath.Join(home, "missing"), "/usr/bin"}, string(filepath.ListSeparator))
	for _, dir := range (Options{Arch: "arm64", Path: path}).toolchain().folders() {
		if !slices.Contains([]string{bin, "/usr/bin", "/usr"}, dir) {
			t.Errorf("%s is shown", dir)
		}
	}
}

// locked returns the lock's entry of an archive. It stores nothing: a build must fetch the archive
// from its path.
func locked(t *testing.T, path string) lock.Kernel {
	t.Helper()
	k, err := Resolve(t.Context(), ResolveOptions{Source: path, Store: store(t)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// buildTools skips a test if the kernel cannot be built here.
func buildTools(t *testing.T, arch string) {
	t.Helper()
	if err := CheckTools(t.Context(), arch); err != nil {
		t.Skip(err)
	}
}

// TestSourceFromBundle takes the archive from a bundle only. The archive does not contain a kernel.
// The build's error about that shows that it was used.
func TestSourceFromBundle(t *testing.T) {
	buildTools(t, "arm64")
	archive := sourceTar(t, map[string]string{"Makefile": makefileHead})
	path := write(t, "linux.tar", archive)
	k := locked(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	err := offline.Write(&file, &offline.Index{Format: offline.Format, Items: []offline.Item{
		{Kind: offline.KernelSource, Name: k.SHA256, Size: k.Size, SHA256: k.SHA256}}},
		func(offline.Item) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := offline.Open(write(t, "bundle", file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer bundle.Close()
	_, err = runStage(t, t.Context(), store(t), Options{Arch: "arm64", Source: k, Bundle: bundle, Fetch: &fetch.Client{Transport: fetch.Offline}})
	if err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "build Linux 6.1.7") {
		t.Errorf("got %v", err)
	}
	s := store(t)
	if _, err := FetchLocked(t.Context(), ResolveOptions{Store: s, Fetch: &fetch.Client{Transport: fetch.Offline}}, k); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an archive that is nowhere: %v", err)
	}
	if _, err := s.Put(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	if b, err := FetchLocked(t.Context(), ResolveOptions{Store: s}, k); err != nil || b.Digest.Hex() != k.SHA256 {
		t.Errorf("an archive that is in the store: %v, %v", b, err)
	}
}

func TestLockedSource(t *testing.T) {
	buildTools(t, "arm64")
	path := write(t, "linux.tar", sourceTar(t, map[string]string{"Makefile": makefileHead}))
	k := locked(t, path)
	if err := os.WriteFile(path, sourceTar(t, map[string]string{"Makefile": makefileHead + "# changed\n"}), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := runStage(t, t.Context(), store(t), Options{Arch: "arm64", Source: k})
	var changed *SourceChangedError
	if !errors.As(err, &changed) || changed.Want != k.SHA256 || !strings.Contains(err.Error(), "--update-lock") {
		t.Errorf("changed source: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = runStage(t, t.Context(), store(t), Options{Arch: "arm64", Source: k})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "a build with a lock takes no other") {
		t.Errorf("source that is gone: %v", err)
	}
}

func TestSourceFromStore(t *testing.T) {
	buildTools(t, "arm64")
	path := write(t, "linux.tar", sourceTar(t, map[string]string{"Makefile": makefileHead}))
	s := store(t)
	k, err := Resolve(t.Context(), ResolveOptions{Source: path, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// The archive in the store is used; it does not contain a kernel.
	_, err = runStage(t, t.Context(), s, Options{Arch: "arm64", Source: k, Fetch: &fetch.Client{Transport: fetch.Offline}})
	if err == nil || !strings.Contains(err.Error(), "no Kbuild file") {
		t.Errorf("error %v, want one about the source's content", err)
	}
}

// TestBuildErrors builds sources with a Makefile of a few lines.
func TestBuildErrors(t *testing.T) {
	buildTools(t, "arm64")
	config := "allnoconfig:\n\t@cp $(KCONFIG_ALLCONFIG) .config\n"
	tests := []struct{ name, makefile, want string }{
		{"configuration fails", "allnoconfig:\n\t@echo scripts are broken >&2; false\n", "configure: make: exit status 2; its last lines:\n  scripts are broken"},
		{"option unknown to the source", "allnoconfig:\n\t@grep -v SYSVIPC $(KCONFIG_ALLCONFIG) > .config\n", "CONFIG_SYSVIPC is not set"},
		// The fragments leave some requirements to the kernel's defaults.
		{"compiler fails", config + "\t@printf 'CONFIG_ARM_GIC_V3=y\\nCONFIG_ARM_PSCI_FW=y\\nCONFIG_ARM_ARCH_TIMER=y\\n' >> .config\nImage:\n\t@echo '  CC      x.o'; echo x.c:1: error >&2; false\n",
			"compile: make: exit status 2; its last lines:\n    CC      x.o\n  x.c:1: error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, "linux.tar", sourceTar(t, map[string]string{"Kbuild": "", "Makefile": makefileHead + tt.makefile}))
			_, err := runStage(t, t.Context(), store(t), Options{Arch: "arm64", Source: locked(t, path)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestCancel cancels a build whose Makefile does not end. Package confine tests that no process is
// left.
func TestCancel(t *testing.T) {
	buildTools(t, "arm64")
	path := write(t, "linux.tar", sourceTar(t, map[string]string{"Kbuild": "", "Makefile": makefileHead + "allnoconfig:\n\t@sleep 600\n"}))
	k := locked(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	engine := &pipeline.Engine{Store: store(t), Progress: reporter(func(e progress.Event) {
		for _, r := range e.Running {
			if r.Step == "configure" {
				cancel()
			}
		}
	})}
	if _, err := engine.Build(ctx, []pipeline.Stage{New(Options{Arch: "arm64", Source: k})}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled build: %v", err)
	}
}

type reporter func(progress.Event)

func (r reporter) Report(e progress.Event) { r(e) }
func (r reporter) Close() error            { return nil }

// TestHostileSource builds sources whose Makefile or archive reaches outside the build. Each
// attempt would succeed with sov's rights.
func TestHostileSource(t *testing.T) {
	buildTools(t, "arm64")
	if err := confine.Check(t.Context()); err != nil {
		t.Skip(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("as it was"), 0o666); err != nil {
		t.Fatal(err)
	}
	secret := write(t, "secret", []byte("c4n4ry"))
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	try := func(name, command string) map[string]string {
		return map[string]string{"Kbuild": "", "Makefile": makefileHead + "allnoconfig:\n\t@" + command + " && echo " + name + " worked\n\t@false\n"}
	}
	for name, files := range map[string]map[string]string{
		"reading":     try("reading", "cat "+secret+" /etc/shadow"),
		"writing":     try("writing", "echo changed >"+outside),
		"asking":      try("asking", fmt.Sprintf("bash -c 'exec 3<>/dev/tcp/127.0.0.1/%d; echo GET /asked >&3; cat <&3'", port)),
		"root":        try("root", "test $$(id -u) = 0"),
		"environment": try("environment", "grep -az SOV_ /proc/$$PPID/environ"),
		"leaving a link in place of the configuration": {"Kbuild": "", "Makefile": makefileHead + "allnoconfig:\n\t@ln -s " + secret + " .config\n"},
		"leaving a pipe in place of the configuration": {"Kbuild": "", "Makefile": makefileHead + "allnoconfig:\n\t@mkfifo .config\n"},
		"a link in place of what sov writes":           {"Kbuild": "", "Makefile": makefileHead + "allnoconfig:\n\t@false\n", "sov.config -> " + outside: ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, "linux.tar", sourceTar(t, files))
			_, err := runStage(t, t.Context(), store(t), Options{Arch: "arm64", Source: locked(t, path)})
			if err == nil || strings.Contains(err.Error(), "worked") || strings.Contains(err.Error(), "c4n4ry") || strings.Contains(err.Error(), "root:") {
				t.Errorf("got %v", err)
			}
			if b, err := os.ReadFile(outside); err != nil || string(b) != "as it was" {
				t.Errorf("a file outside is %q, %v", b, err)
			}
		})
	}
	select {
	case path := <-asked:
		t.Errorf("a server was asked for %s", path)
	default:
	}
}

func TestIneffective(t *testing.T) {
	fragments := []guest.Fragment{{Name: "a.config", Text: "CONFIG_A=y\nCONFIG_B=32\n# CONFIG_C is not set\n# CONFIG_D is not set\n"}}
	got, err := ineffective(fragments, kconfig.Config{"A": "y", "B": "16", "C": "y"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"CONFIG_B=32", "CONFIG_C off"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSourceName(t *testing.T) {
	for source, want := range map[string]string{
		"https://example.org/a/linux.tar.xz": "https://example.org/a/linux.tar.xz",
		"deb:linux-source-6.1=6.1.7-1":       "deb:linux-source-6.1=6.1.7-1",
		"/home/someone/linux-6.1.7.tar.xz":   "linux-6.1.7.tar.xz",
	} {
		if got := sourceName(source); got != want {
			t.Errorf("sourceName(%q) = %q, want %q", source, got, want)
		}
	}
}
