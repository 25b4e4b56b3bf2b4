package recipe

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sovereign-sql/sov/assets"
)

// compose composes main.yaml of the given files, whose texts are by name.
func compose(files map[string]string, v Variant) (*Recipe, []byte, error) {
	read := func(name string) (Source, error) {
		if !strings.HasSuffix(name, ".yaml") {
			text, err := assets.Recipe(name)
			return Source{Name: name + ".yaml", Text: text}, err
		}
		text, ok := files[name]
		if !ok {
			return Source{}, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		return Source{Name: name, Text: []byte(text), Dir: filepath.Dir(name)}, nil
	}
	src, err := read("main.yaml")
	if err != nil {
		return nil, nil, err
	}
	return Compose(src, v, func(from Source, name string) (Source, error) {
		if strings.HasSuffix(name, ".yaml") {
			name = filepath.Join(from.Dir, name)
		}
		return read(name)
	})
}

// web has nginx and PostgreSQL.
const web = `extends: sql
name: web
packages:
  install+: [nginx]
postgres:
  roles:
    - {name: app, database: shop}
    - name: report
services:
  - name: nginx
    command: [/usr/sbin/nginx]
network: {tap: vm_web, publish+: [80]}
by_arch:
  amd64: {vm: {cpus: 4}}
profiles:
  dev:
    name: web-dev
    vm: {memory: 512MiB}
    services: [{name: nginx, environment: {DEBUG: "1"}}]
  big: {vm: {memory: 4GiB}}
`

func TestCompose(t *testing.T) {
	files := map[string]string{"main.yaml": web}
	r, text, err := compose(files, Variant{Arch: "arm64"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "web" || r.VM.CPUs != 2 || r.VM.Memory != GiB || r.Network.TAP != "vm_web" || r.Network.Host != "192.168.100.1/24" {
		t.Errorf("%+v", r)
	}
	if i := r.Packages.Install; i[0] != "postgresql" || i[len(i)-1] != "nginx" {
		t.Errorf("packages %q", i)
	}
	if diff := cmp.Diff([]Role{{Name: "app", Database: "shop"}, {Name: "report", Database: "report"}}, r.Postgres.Roles); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Publish{{Port: 5432, Service: "postgres", Protocol: "tcp"}, {Port: 80, Protocol: "tcp"}}, r.Network.Publish); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"big", "dev"}, r.Profiles.Names()); diff != "" {
		t.Error(diff)
	}
	// The text is the whole recipe. Parsing it returns the same recipe.
	alone, err := Parse("text.yaml", text)
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	alone.Dir, r.ByArch, r.Profiles = r.Dir, nil, nil
	if diff := cmp.Diff(r, alone, cmpopts.IgnoreUnexported(Recipe{})); diff != "" {
		t.Errorf("the text means another recipe: %s\n%s", diff, text)
	}

	if r, _, err := compose(files, Variant{Arch: "amd64"}); err != nil || r.VM.CPUs != 4 {
		t.Errorf("amd64: %+v, %v", r, err)
	}
	r, _, err = compose(files, Variant{Arch: "amd64", Profiles: []string{"dev", "big"}, Set: []string{
		"version=7", "vm.cpus=8", "postgres.settings.auto_explain.log_min_duration=1s", "services.nginx.environment.LEVEL=a=b",
		"network.dns=[9.9.9.9]", "packages.install+=curl", "services.nginx.command=[/usr/sbin/nginx, -g, daemon off;]"}})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Services[0]
	if r.Name != "web-dev" || r.VM.Memory != 4*GiB || r.VM.CPUs != 8 || r.Version != "7" || r.Postgres.Settings["auto_explain.log_min_duration"] != "1s" {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff(map[string]Variable{"DEBUG": {Text: "1"}, "LEVEL": {Text: "a=b"}}, s.Environment); diff != "" || len(r.Services) != 1 || len(s.Command) != 3 {
		t.Errorf("%s: %+v", diff, s)
	}
	if i := r.Packages.Install; i[len(i)-1] != "curl" || i[len(i)-2] != "nginx" || len(r.Network.DNS) != 1 {
		t.Errorf("packages %q, name servers %q", i, r.Network.DNS)
	}
}

// TestTextOfOne: a recipe without overlays keeps its text, including comments.
func TestTextOfOne(t *testing.T) {
	src := "# mine\n" + minimal
	if _, text, err := compose(map[string]string{"main.yaml": src}, Variant{Arch: "arm64"}); err != nil || string(text) != src {
		t.Errorf("%v: %s", err, text)
	}
}

// TestSourcesOfBase: paths in a base recipe are relative to the folder of that recipe.
func TestSourcesOfBase(t *testing.T) {
	r, _, err := compose(map[string]string{
		"main.yaml":      "extends: base/web.yaml\nname: main\nfiles+: [{path: /etc/b, source: b}]\n",
		"base/web.yaml":  "extends: ../tiny.yaml\nfiles: [{path: /etc/a, source: site/a}]\n",
		"tiny.yaml":      minimal + "files: [{path: /etc/c, source: c}]\n",
		"base/tiny.yaml": "no",
	}, Variant{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Files {
		got = append(got, f.Path+" "+f.Source)
	}
	if diff := cmp.Diff([]string{"/etc/c c", "/etc/a base/site/a", "/etc/b b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestComposeFaults(t *testing.T) {
	deep := map[string]string{}
	for i := range 12 {
		deep[fmt.Sprintf("%d.yaml", i)] = fmt.Sprintf("extends: %d.yaml\n", i+1)
	}
	deep["main.yaml"] = "extends: 0.yaml\n"
	for name, c := range map[string]struct {
		files map[string]string
		v     Variant
		want  string
	}{
		"place in the base":     {map[string]string{"main.yaml": "extends: b.yaml\nname: x\n", "b.yaml": minimal + "vm:\n  memry: 1GiB\n"}, Variant{}, `b.yaml:4:3: unknown key "memry" in vm; did you mean "memory"?`},
		"meaning in the base":   {map[string]string{"main.yaml": "extends: b.yaml\nname: x\n", "b.yaml": minimal + "vm:\n  cpus: 99\n"}, Variant{}, "b.yaml:4:9: vm.cpus: 99 is not between 1 and 64"},
		"meaning over the base": {map[string]string{"main.yaml": "extends: b.yaml\nvm: {cpus: 98}\n", "b.yaml": minimal + "vm:\n  cpus: 4\n"}, Variant{}, "main.yaml:2:12: vm.cpus: 98 is not between 1 and 64"},
		"no base":               {map[string]string{"main.yaml": "name: x\nextends: b.yaml\n"}, Variant{}, "main.yaml:2:10: extends: b.yaml: file does not exist"},
		"circle":                {map[string]string{"main.yaml": "extends: b.yaml\n", "b.yaml": "extends: main.yaml\n"}, Variant{}, "main.yaml: extends: main.yaml, b.yaml extend each other in a circle: remove one extends"},
		"deep":                  {deep, Variant{}, "7.yaml:1:10: extends: more than 8 recipes extend each other"},
		"profile":               {map[string]string{"main.yaml": web}, Variant{Profiles: []string{"dve"}}, `main.yaml: --profile "dve" does not exist; did you mean "dev"?`},
		"no profiles":           {map[string]string{"main.yaml": minimal}, Variant{Profiles: []string{"dev"}}, `main.yaml: --profile "dev" does not exist; the recipe has none`},
		"in a profile":          {map[string]string{"main.yaml": minimal + "profiles:\n  dev: {vm: {cpu: 3}}\n"}, Variant{}, `main.yaml:4:14: profiles.dev: unknown key "cpu" in vm; did you mean "cpus"?`},
		"profile in a profile":  {map[string]string{"main.yaml": minimal + "profiles:\n  dev: {extends: sql}\n"}, Variant{}, "main.yaml:4:9: profiles.dev: extends is allowed only at the top of a recipe"},
		"not a profile":         {map[string]string{"main.yaml": minimal + "profiles: {dev: 1}\n"}, Variant{}, "main.yaml:3:17: profiles.dev: must be a mapping with keys of a recipe"},
		"architecture":          {map[string]string{"main.yaml": minimal + "by_arch: {arm: {vm: {cpus: 3}}}\n"}, Variant{}, "main.yaml:3:16: by_arch.arm: must be arm64 or amd64"},
		"name by architecture":  {map[string]string{"main.yaml": minimal + "by_arch: {arm64: {name: y}}\n"}, Variant{}, "main.yaml:3:25: by_arch.arm64.name: a machine has one name for all architectures"},
		"append":                {map[string]string{"main.yaml": "extends: sql\nvm: {memory+: 1GiB}\n"}, Variant{}, "main.yaml:2:15: vm.memory+: appends to a list, and this is not a list"},
		"unknown append":        {map[string]string{"main.yaml": minimal + "packages: {instal+: [a]}\n"}, Variant{}, `main.yaml:3:12: unknown key "instal" in packages; did you mean "install"?`},
		"set unknown":           {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"vm.memry=1GiB"}}, `--set vm.memry=1GiB: unknown key "memry" in vm; did you mean "memory"?`},
		"set type":              {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"vm.cpus=two"}}, `--set vm.cpus=two: vm.cpus: expected a whole number, found the string "two"`},
		"set meaning":           {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"vm.cpus=99"}}, "--set vm.cpus=99: vm.cpus: 99 is not between 1 and 64"},
		"set size":              {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"vm.memory=2GB"}}, `--set vm.memory=2GB: vm.memory: "2GB" is not a size`},
		"set deeper":            {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"vm.cpus.x=2"}}, `--set vm.cpus.x=2: vm.cpus has no keys below it, and "x" was given`},
		"set item":              {map[string]string{"main.yaml": web}, Variant{Set: []string{"services.ngnix.user=x"}}, `--set services.ngnix.user=x: services "ngnix" does not exist; did you mean "nginx"?`},
		"set list":              {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"network.dns=1.1.1.1"}}, "--set network.dns=1.1.1.1: network.dns: must be a list, such as [a, b]; network.dns+=VALUE appends"},
		"set extends":           {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"extends=sql"}}, `--set extends=sql: unknown key "extends" at the top level`},
		"set nothing":           {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"vm.cpus"}}, "--set vm.cpus: must be KEY=VALUE, such as vm.memory=2GiB"},
		"set files":             {map[string]string{"main.yaml": minimal}, Variant{Set: []string{"files./etc/x.mode=0600"}}, "the items of files have no names: give files the whole list"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := compose(c.files, c.v)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) && !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("got\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestTags(t *testing.T) {
	const with = minimal + "packages: {repositories: [https://example.org/main, \"@edge https://example.org/edge\"], install: [%s]}\n"
	for install, want := range map[string]string{
		"app@edge": "", "app@edge>=2": "", "app": "",
		"app@egde": "x.yaml:3:98: packages.install[0]: no repository has the tag @egde", "app@": "is not a package",
	} {
		_, err := Parse("x.yaml", fmt.Appendf(nil, with, install))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", install, err)
		}
	}
	for repository, want := range map[string]string{
		"@edge https://example.org/edge": "", "@edge ./edge": "", "@ed!ge https://example.org": "is not a tag", "@edge": "is empty",
		"https://example.org/aarch64/packages.adb": "apk version 3", "@edge ftp://x": "is not supported",
	} {
		err := CheckRepository(repository)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", repository, err)
		}
	}
}

func TestGoPrograms(t *testing.T) {
	for program, want := range map[string]string{
		"{output: /usr/bin/app, source: ./app}":                                              "",
		"{output: /usr/bin/app, module: example.org/app, version: v1.2.3, package: cmd/app}": "",
		"{output: /usr/bin/app, module: example.org/app}":                                    "write a whole version, such as v1.2.3",
		"{output: /usr/bin/app, module: example.org/app, version: latest}":                   "write a whole version",
		"{output: /usr/bin/app}":                                                             "give module and version, or source",
		"{output: /usr/bin/app, source: a, module: example.org/app, version: v1.2.3}":        "give module and version, or source",
		"{output: /data/app, source: a}":                                                     "the guest mounts over /data",
		"{output: /sbin/sov-init, source: a}":                                                "is the build's own",
		"{output: /usr/bin/app, source: a, package: ../other}":                               "is not the path of a package",
		"{output: /usr/bin/app, source: a, tags: [\"a,b\"]}":                                 "is not a build tag",
		"{output: /usr/bin/app, source: a, version: v1.2.3}":                                 "goes with module",
	} {
		_, err := Parse("x.yaml", []byte(minimal+"go: ["+program+"]\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", program, err)
		}
	}
}
