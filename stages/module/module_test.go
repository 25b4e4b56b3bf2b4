package module

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

// write returns the module of an artifact's folder.
func write(t *testing.T, dir string) []byte {
	t.Helper()
	a, err := installed.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	open := func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) }
	if err := Write(t.Context(), &b, a.Manifest, a.Files, open, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWrite(t *testing.T) {
	dir := artifacttest.Make(t, "sql", "12.3", []byte("kernel"), make([]byte, 1<<20))
	if err := os.WriteFile(filepath.Join(dir, "sov-runner"), []byte("runner"), 0o755); err != nil {
		t.Fatal(err)
	}
	first := write(t, dir)
	if !bytes.Equal(first, write(t, dir)) {
		t.Error("the same artifact made two modules")
	}
	r, err := zip.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range r.File {
		const descriptor = 1 << 3 // APPNOTE.TXT, 4.4.4: sizes after the content
		if f.Flags&descriptor != 0 {
			t.Errorf("%s has its sizes behind it", f.Name)
		}
		src, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(src)
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		got[f.Name] = string(text)
	}
	for name, has := range map[string]string{
		"META-INF/com/google/android/update-binary":  "install_module",
		"META-INF/com/google/android/updater-script": "#MAGISK\n",
		"module.prop":            "id=sov-sql\nname=sov: sql\nversion=12.3\nversionCode=12\nauthor=sov\n",
		"customize.sh":           "install",
		"service.sh":             "up",
		"boot-completed.sh":      "service.sh",
		"uninstall.sh":           "remove",
		"sov-runner":             "runner",
		"artifact/manifest.json": `"version": "12.3"`,
		"artifact/vm.json":       `"name": "sql"`,
		"artifact/kernel":        "kernel",
		"artifact/rootfs.img":    "\x00",
	} {
		if !strings.Contains(got[name], has) {
			t.Errorf("%s has no %q: %.200q", name, has, got[name])
		}
	}
	if len(got) != 12 {
		t.Errorf("%d files", len(got))
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox, whose unzip root managers use")
	}
	path := filepath.Join(t.TempDir(), "module.zip")
	if err := os.WriteFile(path, first, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(busybox, "unzip", "-p", path, "artifact/rootfs.img").Output(); err != nil || len(out) != 1<<20 {
		t.Errorf("busybox unzip: %d bytes: %v", len(out), err)
	}
}

func TestProperties(t *testing.T) {
	for version, code := range map[string]string{"1": "1", "v2.4": "2", "main": "1", "17-1": "17", "99999999999999": "999999999", "0": "1"} {
		text := properties(&manifest.Manifest{Name: "sql", Version: version, Description: "two\nlines", Arch: "arm64"}, arch.Arch{Installer: "arm64"})
		if !strings.Contains(text, "\nversionCode="+code+"\n") || !strings.Contains(text, "\ndescription=two lines\n") || !strings.HasSuffix(text, "\nsovArch=arm64\n") {
			t.Errorf("%s: %s", version, text)
		}
	}
}
