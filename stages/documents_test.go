package stages_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
	"github.com/sovereign-sql/sov/stages"
)

// A snippet is a recipe, or a part of one, in a document.
type snippet struct{ at, text string }

// snippets returns the YAML blocks of all documents that show recipes.
func snippets(t *testing.T) (found []snippet) {
	t.Helper()
	paths, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, "../README.md") {
		if path == "../docs/configuration.md" {
			continue // sov's own settings: package settings tests them
		}
		doc, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		line := 1
		for i, block := range strings.Split(string(doc), "```yaml\n") {
			if text, _, _ := strings.Cut(block, "```"); i > 0 {
				found = append(found, snippet{fmt.Sprintf("%s:%d", filepath.Base(path), line), text})
			}
			line += strings.Count(block, "\n") + 1
		}
	}
	return found
}

// whole completes a part of a recipe.
func (s snippet) whole() string {
	text := "\n" + s.text
	if strings.Contains(text, "\nextends: ") {
		return s.text
	}
	if strings.Contains(text, "\npostgres:") {
		return "extends: sql" + text
	}
	for key, value := range map[string]string{"name": "snippet", "base": "{image: base}", "packages": "{repositories: [/packages], install: [e2fsprogs]}"} {
		if !strings.Contains(text, "\n"+key+":") {
			text = "\n" + key + ": " + value + text
		}
	}
	return text
}

// programsOf returns the programs that a recipe's services start, and the users that it names
// without creating them.
func programsOf(r *recipe.Recipe) (programs, users []string) {
	commands := [][]string{}
	for _, s := range r.Services {
		commands = append(commands, s.Command, s.Ready.Command)
		users = append(users, s.User)
		if s.Alive != nil {
			commands = append(commands, s.Alive.Command)
		}
		if s.Backup != nil {
			commands = append(commands, s.Backup.Command, s.Backup.Restore)
		}
		for _, step := range slices.Concat(s.Prepare, s.PostReady) {
			commands, users = append(commands, step.Command), append(users, step.User)
		}
	}
	for _, c := range commands {
		if len(c) > 0 && strings.HasPrefix(c[0], "/") && !strings.HasPrefix(c[0], "/data/") {
			programs = append(programs, c[0])
		}
	}
	users = slices.DeleteFunc(users, func(name string) bool {
		return name == "" || name == "root" || slices.ContainsFunc(r.Users, func(u recipe.User) bool { return u.Name == name })
	})
	return programs, users
}

// TestSnippets builds every recipe in the documents, from an image and packages that contain what
// it names.
func TestSnippets(t *testing.T) {
	found := snippets(t)
	if len(found) < 12 {
		t.Fatalf("the documents show %d recipes", len(found))
	}
	w := alpineWorld(t)
	// docs/recipe.md contains the digest of "foo\n".
	w.Answer(func(path string, rw http.ResponseWriter) bool {
		if path == "/countries.mmdb" {
			fmt.Fprintln(rw, "foo")
		}
		return path == "/countries.mmdb"
	})
	packages := map[string]bool{"postgresql17": true}
	for name := range alpinePackages {
		packages[name] = true
	}
	for i, s := range found {
		t.Run(s.at, func(t *testing.T) {
			dir := t.TempDir()
			for _, source := range []string{"site/index.html", "build/app"} {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(source)), 0o755); err != nil {
					t.Fatal(err)
				}
				w.Write(filepath.Join(dir, source), []byte("#!/bin/sh\n"))
			}
			path := filepath.Join(dir, "recipe.yaml")
			w.Write(path, []byte(strings.NewReplacer("docker.io/vaultwarden/server:1.34.3-alpine", w.Host+"/vaultwarden:1",
				"https://example.org/2026-11/", "http://"+w.Host+"/").Replace(s.whole())))
			r, text, err := stages.LoadRecipe(path, recipe.Variant{})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Go) > 0 {
				return // tests of stages/goprogram compile such programs
			}
			for _, name := range r.Packages.Install {
				name, _, _ = strings.Cut(strings.TrimLeft(name, "!"), ">")
				if !packages[name] {
					w.AddPackage(&apkbuild.Package{Info: apkbuild.Info{Name: name, Version: "1.0-r0", License: "MIT"}})
					packages[name] = true
				}
			}
			files := w.BaseFiles()
			programs, users := programsOf(r)
			for _, program := range append(programs, "/bin/sh", "/usr/bin/caddy") {
				files[strings.TrimPrefix(program, "/")] = "#!"
			}
			for n, user := range users {
				files["etc/passwd"] += fmt.Sprintf("%s:x:%d:%d::/:/bin/sh\n", user, 2000+n, 2000+n)
				files["etc/group"] += fmt.Sprintf("%s:x:%d:\n", user, 2000+n)
			}
			r.Tailscale.Enabled = false
			o := w.Options(dir, "name: options\nbase: {image: base}\n")
			o.Recipe, o.RecipeText, o.Repositories = r, text, []string{"http://" + w.Host + "/main"}
			o.Image = w.Push(fmt.Sprintf("snippet:%d", i), files, func(c *v1.Config) { c.Cmd, c.Env = []string{"caddy", "run"}, []string{"PATH=/usr/bin"} })
			if _, err := stages.Build(t.Context(), o); err != nil {
				t.Errorf("%v\n%s", err, s.text)
			}
		})
	}
}
