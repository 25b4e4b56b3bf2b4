package stages_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/group"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/stages"
)

// alpinePackages maps the packages that the recipes install to the programs of Alpine's packages.
var alpinePackages = map[string][]string{
	"forgejo": {"usr/bin/forgejo"}, "tzdata": nil, "ca-certificates-bundle": nil, "e2fsprogs": {"usr/sbin/e2fsck"},
	"nginx": {"usr/sbin/nginx"}, "redis": {"usr/bin/redis-server", "usr/bin/redis-cli"}, "git": {"usr/bin/git", "usr/bin/git-shell"},
	"openssh-server": {"usr/sbin/sshd"}, "openssh-keygen": {"usr/bin/ssh-keygen"},
	"prometheus-node-exporter": {"usr/bin/node_exporter"}, "postgresql17-client": {"usr/libexec/postgresql17/psql"},
	"postgresql17-contrib": {extensionDir + "pg_stat_statements.control", extensionDir + "pg_trgm.control"},
	"postgresql-pgvector":  {extensionDir + "vector.control"}, "pgbouncer": {"usr/bin/pgbouncer"},
}

const extensionDir = "usr/share/postgresql17/extension/"

// alpineWorld serves a base image and packages under the names that they have in Alpine.
func alpineWorld(t *testing.T) *tinybuild.World {
	t.Helper()
	w := tinybuild.New(t)
	files := w.BaseFiles()
	for _, applet := range []string{"sh", "cp", "sed", "chmod", "ln"} { // of busybox
		files["bin/"+applet] = "#!"
	}
	w.Push("alpine:3.22", files)
	w.Push("vaultwarden:1", map[string]string{"vaultwarden": "#!", "web-vault/index.html": "<!doctype html>"})
	for name, programs := range alpinePackages {
		p := &apkbuild.Package{Info: apkbuild.Info{Name: name, Version: "1.0-r0", License: "MIT"}}
		if virtual, ok := strings.CutPrefix(name, "postgresql17-"); ok {
			p.Provides = []string{"postgresql-" + virtual + "=17"}
		}
		for _, program := range programs {
			p.Files = append(p.Files, apkbuild.File{Name: program, Type: apkbuild.Regular, Mode: 0o755, Data: []byte("#!/bin/sh\n")})
		}
		w.AddPackage(p)
	}
	return w
}

// TestMachinesShipped builds every recipe that comes with sov or is in examples, with each profile,
// from packages of the same names. The build checks the programs and users of their services.
// Package group tests the groups.
func TestMachinesShipped(t *testing.T) {
	w := alpineWorld(t)
	texts := map[string]string{}
	for _, name := range assets.Recipes() {
		if name == "sql" {
			continue // TestSQL builds it from real programs
		}
		text, err := assets.Recipe(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	examples, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(examples) < 5 {
		t.Fatalf("%d examples, %v", len(examples), err)
	}
	for _, path := range examples {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if g, err := group.Load(path); g == nil && err == nil {
			texts[strings.TrimSuffix(filepath.Base(path), ".yaml")] = string(text)
		}
	}
	networks := map[string]string{}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := strings.NewReplacer("docker.io/library/alpine:3.22", w.Host+"/alpine:3.22", "docker.io/vaultwarden/server:1.34.3-alpine", w.Host+"/vaultwarden:1",
				"https://dl-cdn.alpinelinux.org/alpine/v3.22/main", "http://"+w.Host+"/main",
				"https://dl-cdn.alpinelinux.org/alpine/v3.22/community", "http://"+w.Host+"/main").Replace(text)
			if strings.Contains(text, "docker.io") || strings.Contains(text, "alpinelinux.org") {
				t.Fatalf("it takes something from elsewhere than the others:\n%s", text)
			}
			path := filepath.Join(dir, name+".yaml")
			w.Write(path, []byte(text))
			w.Write(filepath.Join(dir, "app"), []byte("#!/bin/sh\n")) // app.yaml names it
			r, _, err := stages.LoadRecipe(path, recipe.Variant{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Name != name {
				t.Errorf("its name is %s", r.Name)
			}
			// Several of them run on one phone.
			if other, taken := networks[r.Network.TAP]; taken || !r.Network.AddressUnset {
				t.Errorf("its interface %s may be that of %s too, its addresses %s another's", r.Network.TAP, other, r.Network.Host)
			}
			networks[r.Network.TAP] = name
			o := w.Options(dir, text)
			for _, profile := range append([]string{""}, r.Profiles.Names()...) {
				if profile != "" {
					if r, _, err = stages.LoadRecipe(path, recipe.Variant{Profiles: []string{profile}}); err != nil {
						t.Fatal(err)
					}
				}
				o.Recipe = r
				r.Tailscale.Enabled = false // compiling it takes minutes, and other tests do
				result, err := stages.Build(t.Context(), o)
				if err != nil {
					t.Fatalf("profile %q: %v", profile, err)
				}
				for _, s := range result.Stages {
					if len(s.Warnings) > 0 && name != "app" { // app's libraries of ICU have scripts
						t.Errorf("%s: warned %q", s.Name, s.Warnings)
					}
				}
				checkServices(t, result.Dir)
			}
		})
	}
}

// checkServices checks that the guest starts services, that their programs exist, and that only
// sshd runs as root.
func checkServices(t *testing.T, dir string) {
	t.Helper()
	img, err := built.OpenImage(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	config, err := guestspec.Load(img.FS)
	if err != nil || len(config.Services) == 0 {
		t.Fatalf("%d services, %v", len(config.Services), err)
	}
	for _, s := range config.Services {
		if s.User == "root" && !slices.Equal(s.Command[:1], []string{"/usr/sbin/sshd"}) {
			t.Errorf("service %s runs as root", s.Name)
		}
		if _, err := fs.Stat(img.FS, strings.TrimPrefix(s.Command[0], "/")); err != nil {
			t.Errorf("service %s: %v", s.Name, err)
		}
	}
}

// TestExampleIsShort checks that a web application with its database needs few lines and no shell.
func TestExampleIsShort(t *testing.T) {
	text, err := os.ReadFile("../examples/app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 30 || strings.Contains(string(text), "/sh") {
		t.Errorf("examples/app.yaml has %d lines", n)
	}
}
