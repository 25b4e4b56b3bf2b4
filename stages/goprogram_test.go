package stages_test

import (
	"context"
	"debug/elf"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
	"github.com/sovereign-sql/sov/stages/offlinebundle"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// TestGoProgram compiles a program beside the recipe into the image, pins it in the lock and adds
// it to bundles. The provenance contains the recipe.
func TestGoProgram(t *testing.T) {
	w := tinybuild.New(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.Write(filepath.Join(dir, "app/go.mod"), []byte("module app\n\ngo 1.21\n"))
	w.Write(filepath.Join(dir, "app/main.go"), []byte("package main\n\nfunc main() { println(1) }\n"))
	text := w.Recipe("go: [{output: /usr/bin/app, source: app}]\n")
	w.Write(filepath.Join(dir, "tiny.yaml"), []byte(text))
	options := func() stages.Options { return w.FileOptions(filepath.Join(dir, "tiny.yaml")) }
	check := func(dir string) {
		t.Helper()
		img, err := built.OpenImage(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer img.Close()
		content, err := img.FS.ReadFile("usr/bin/app")
		if err != nil {
			t.Fatal(err)
		}
		if f, err := elf.NewFile(strings.NewReader(string(content))); err != nil || f.Machine != map[string]elf.Machine{"arm64": elf.EM_AARCH64, "amd64": elf.EM_X86_64}[tinybuild.Arch] {
			t.Errorf("the program is no program for %s: %v", tinybuild.Arch, err)
		}
	}
	o := options()
	result := w.Build(o)
	check(result.Dir)
	sum := result.Lock.Files[0].SHA256
	if result.Lock.Files[0].Source != "go:app" || len(sum) != 64 {
		t.Errorf("the lock has %+v", result.Lock.Files)
	}
	if got, err := provenance.Recipe(result.Dir); err != nil || string(got) != text {
		t.Errorf("the provenance has the recipe\n%s, %v", got, err)
	}
	var statement provenance.Statement
	if err := json.Unmarshal([]byte(tinybuild.ReadFile(t, filepath.Join(result.Dir, artifact.ProvenanceFile))), &statement); err != nil {
		t.Fatal(err)
	}
	pinned := false
	for _, r := range statement.Predicate.BuildDefinition.ResolvedDependencies {
		pinned = pinned || r.Name == "/usr/bin/app" && r.Digest["dirHash"] == sum
	}
	if !pinned || statement.Predicate.BuildDefinition.InternalParameters.Go == "" {
		t.Error("the sources, or the toolchain, are not in the provenance")
	}
	if again := w.Build(options()); len(tinybuild.Ran(again)) > 0 {
		t.Errorf("%q ran again", tinybuild.Ran(again))
	}

	bundle := filepath.Join(t.TempDir(), "tiny.sovbundle")
	if _, err := offlinebundle.Write(t.Context(), o.Options, bundle, nil); err != nil {
		t.Fatal(err)
	}
	there := w.Options(t.TempDir(), text)
	there.Recipe.Dir = t.TempDir()
	there.Offline, there.Bundle = true, bundle
	check(w.Build(there).Dir)

	w.Write(filepath.Join(dir, "app/main.go"), []byte("package main\n\nfunc main() { println(2) }\n"))
	_, err := stages.Build(context.Background(), options())
	if err == nil || !strings.Contains(err.Error(), "go:app, for /usr/bin/app, has changed: run `sov lock RECIPE --update files`") {
		t.Errorf("a changed source: %v", err)
	}
	if _, err := resolve.Update(t.Context(), options().Options, []string{resolve.UpdateFiles}); err != nil {
		t.Fatal(err)
	}
	if again := w.Build(options()); again.Lock.Files[0].SHA256 == sum {
		t.Error("the old sources were taken")
	}
}
