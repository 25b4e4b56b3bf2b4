package stages_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// TestFiles puts the recipe's texts, files beside it and downloads into the image.
func TestFiles(t *testing.T) {
	w := tinybuild.New(t)
	served := []byte("a page")
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		requests++
		rw.Write(served)
	}))
	t.Cleanup(server.Close)
	sum := sha256.Sum256(served)
	dir := t.TempDir()
	program := append([]byte("\x7fELF"), bytes.Repeat([]byte{7}, 1<<20)...)
	w.Write(filepath.Join(dir, "tool"), program)
	text := w.Recipe(`files:
  - {path: /etc/app/app.conf, content: "port = 80\n", mode: "0640", owner: postgres}
  - {path: /usr/bin/tool, source: tool, mode: "0755"}
  - {path: /srv/page.html, url: "` + server.URL + `/page", sha256: "` + hex.EncodeToString(sum[:]) + `", owner: root, group: postgres}
  - {path: /etc/hostname, content: ""}
`)
	w.Write(filepath.Join(dir, "tiny.yaml"), []byte(text))
	options := func() stages.Options { return w.FileOptions(filepath.Join(dir, "tiny.yaml")) }
	o := options()
	result := w.Build(o)
	check := func(dir string) {
		t.Helper()
		img, err := built.OpenImage(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer img.Close()
		for path, want := range map[string]struct {
			content  string
			perm     os.FileMode
			uid, gid uint32
		}{
			"etc/app/app.conf": {"port = 80\n", 0o640, 70, 70}, "usr/bin/tool": {string(program), 0o755, 0, 0}, "srv/page.html": {"a page", 0o644, 0, 70},
			"etc/hostname": {"", 0o644, 0, 0},
		} {
			got, err := img.FS.ReadFile(path)
			if err != nil || string(got) != want.content {
				t.Errorf("/%s: %d bytes, %v", path, len(got), err)
				continue
			}
			info, err := img.FS.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if stat := info.Sys().(*ext4.Stat); info.Mode().Perm() != want.perm || stat.UID != want.uid || stat.GID != want.gid {
				t.Errorf("/%s: mode %v of %d:%d", path, info.Mode(), stat.UID, stat.GID)
			}
		}
	}
	check(result.Dir)
	if len(result.Lock.Files) != 2 || result.Lock.Files[0].Source != "tool" || result.Lock.Files[1].SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("the lock has %+v", result.Lock.Files)
	}
	if text := tinybuild.ReadFile(t, filepath.Join(result.Dir, artifact.ProvenanceFile)); !strings.Contains(text, hex.EncodeToString(sum[:])) {
		t.Error("the download is not in the provenance")
	}
	if again := w.Build(options()); len(tinybuild.Ran(again)) > 0 || requests != 1 {
		t.Errorf("%q ran again, %d requests", tinybuild.Ran(again), requests)
	}

	bundle := filepath.Join(t.TempDir(), "tiny.sovbundle")
	if _, err := offlinebundle.Write(t.Context(), o.Options, bundle, nil); err != nil {
		t.Fatal(err)
	}
	there := w.Options(t.TempDir(), text)
	there.Recipe.Dir = t.TempDir()
	there.Offline, there.Bundle = true, bundle
	check(w.Build(there).Dir)

	program[100] = 8
	w.Write(filepath.Join(dir, "tool"), program)
	_, err := stages.Build(context.Background(), options())
	if err == nil || !strings.Contains(err.Error(), "tool, for /usr/bin/tool, has changed: run `sov lock RECIPE --update files`, or put the old file back") {
		t.Errorf("another file than the lock's: %v", err)
	}
	report, err := resolve.Update(t.Context(), options().Options, []string{resolve.UpdateFiles})
	if err != nil || len(report.Changes) != 1 || report.Changes[0].Kind != "file" || !report.Written {
		t.Errorf("sov lock --update files: %+v, %v", report, err)
	}
	check(w.Build(options()).Dir)

	for more, want := range map[string]string{
		"{path: /x, source: none}":                  "file /x: open " + dir + "/none: no such file or directory: source is relative to the folder of the recipe",
		"{path: /x, source: .}":                     "list the files of a folder one by one",
		"{path: /x, content: x, owner: nobodyhere}": "file /x: there is no user nobodyhere",
		"{path: /x, url: \"" + server.URL + "\", sha256: \"" + strings.Repeat("0", 64) + "\"}": "0000",
	} {
		o := w.Options(t.TempDir(), w.Recipe("files: ["+more+"]\n"))
		o.Recipe.Dir = dir
		if _, err := stages.Build(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", more, err)
		}
	}
}
