package stages_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// TestCopy copies files of another image, which the lock pins.
func TestCopy(t *testing.T) {
	w := tinybuild.New(t)
	other := w.Push("other:1", map[string]string{"usr/local/bin/tool": "tool 1", "srv/page/index.html": "page", "srv/page/sub/x": "x", "etc/passwd": "other"})
	first := w.Push("first:1", map[string]string{"opt/first": "first"})
	more := "copy:\n  - {from: \"" + other + "\", path: /usr/local/bin/tool, to: /usr/bin/tool}\n" +
		"  - {from: \"" + other + "\", path: /srv/page}\n  - {from: \"" + first + "\", path: /opt/first, to: /opt/deep/er}\n"
	dir := t.TempDir()
	o := w.Options(dir, w.Recipe(more))
	built1 := w.Build(o)
	checkCopied(t, built1.Dir, "tool 1")
	if len(built1.Lock.Copied) != 2 || built1.Lock.Copied[0].Reference != other || built1.Lock.Copied[1].Reference != first {
		t.Errorf("the lock has %+v", built1.Lock.Copied)
	}
	statement, err := provenance.Decode([]byte(tinybuild.ReadFile(t, filepath.Join(built1.Dir, artifact.ProvenanceFile))))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(statement.Predicate.BuildDefinition.ResolvedDependencies, func(d provenance.Resource) bool {
		return d.Name == other && "sha256:"+d.Digest["sha256"] == built1.Lock.Copied[0].Digest
	}) {
		t.Error("the image is not in the provenance")
	}

	bundle := filepath.Join(t.TempDir(), "tiny.sovbundle")
	if _, err := offlinebundle.Write(t.Context(), o.Options, bundle, nil); err != nil {
		t.Fatal(err)
	}
	w.Push("other:1", map[string]string{"usr/local/bin/tool": "tool 2", "srv/page/index.html": "page", "srv/page/sub/x": "x"})
	if again := w.Build(o); len(tinybuild.Ran(again)) > 0 {
		t.Errorf("the tag moved, and %q ran", tinybuild.Ran(again))
	}
	there := w.Options(t.TempDir(), w.Recipe(more))
	there.Offline, there.Bundle = true, bundle
	checkCopied(t, w.Build(there).Dir, "tool 1")

	report, err := resolve.Newest(t.Context(), o.Options)
	if err != nil || len(report.Changes) != 1 || report.Changes[0].Name != other {
		t.Errorf("what is newer: %+v, %v", report, err)
	}
	o.UpdateLock = true
	checkCopied(t, w.Build(o).Dir, "tool 2")

	o = w.Options(dir, w.Recipe(""))
	if _, err := stages.Build(context.Background(), o); err == nil || !strings.Contains(err.Error(), "copied images: removed "+other+", "+first) {
		t.Errorf("without the key: %v", err)
	}
	for path, want := range map[string]string{"/usr/local/bin/none": "copy /usr/local/bin/none of image " + other + ": the image has no such file or directory"} {
		o := w.Options(t.TempDir(), w.Recipe("copy: [{from: \""+other+"\", path: "+path+"}]\n"))
		if _, err := stages.Build(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func checkCopied(t *testing.T, dir, tool string) {
	t.Helper()
	img, err := built.OpenImage(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	for path, want := range map[string]string{"usr/bin/tool": tool, "srv/page/index.html": "page", "srv/page/sub/x": "x", "opt/deep/er": "first"} {
		if got, err := img.FS.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("/%s: %q, %v", path, got, err)
		}
	}
	info, err := img.FS.Stat("usr/bin/tool")
	if err != nil || info.Mode().Perm() != 0o755 || info.Sys().(*ext4.Stat).UID != 0 {
		t.Errorf("/usr/bin/tool: %v, %v", info, err)
	}
	if _, err := img.FS.Stat("usr/local/bin/tool"); !os.IsNotExist(err) {
		t.Errorf("/usr/local/bin/tool: %v", err)
	}
	if passwd, err := img.FS.ReadFile("etc/passwd"); err != nil || !strings.HasPrefix(string(passwd), "root:") {
		t.Errorf("/etc/passwd: %q, %v", passwd, err)
	}
}
