package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// env returns an environment with a configuration file, and the path of the file.
func env(t *testing.T, text string, variables ...string) (getenv func(string) string, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "config.yaml")
	if text != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{"SOV_CONFIG_DIR": dir}
	for i := 0; i < len(variables); i += 2 {
		all[variables[i]] = variables[i+1]
	}
	return func(name string) string { return all[name] }, path
}

const full = `image: mirror.example/library/alpine:3.22
repositories:
  - https://mirror.example/alpine/v3.22/main
  - https://mirror.example/alpine/v3.22/community
cache: /srv/sov
cache_from: [registry.example/team/cache]
cache_to: ["type=dir,dest=/srv/shared"]
identity: ~/key.txt
device: ssh:root@phone
`

func TestPrecedence(t *testing.T) {
	getenv, path := env(t, full, "SOV_REPOSITORIES", "https://a.example/x https://b.example/y", "SOV_IMAGE", "other.example/alpine:1")
	s, err := Load(getenv)
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key   string
		flag  []string
		want  string
		from  Origin
		where string
	}{
		{Image, []string{"flag.example/alpine:2"}, "flag.example/alpine:2", FromFlag, "--image"},
		{Image, []string{""}, "other.example/alpine:1", FromEnvironment, "$SOV_IMAGE"},
		{Repositories, nil, "https://a.example/x https://b.example/y", FromEnvironment, "$SOV_REPOSITORIES"},
		{Cache, nil, "/srv/sov", FromFile, path + ":5"},
		{CacheFrom, nil, "registry.example/team/cache", FromFile, path + ":6"},
		{CacheTo, nil, "type=dir,dest=/srv/shared", FromFile, path + ":7"},
		{Identity, nil, filepath.Join(home, "key.txt"), FromFile, path + ":8"},
		{Device, nil, "ssh:root@phone", FromFile, path + ":9"},
	} {
		if got := s.Get(c.key, c.flag...); got.One() != c.want || got.From != c.from || got.Where != c.where {
			t.Errorf("%s: got %+v, want %+v", c.key, got, c)
		}
	}
	getenv, _ = env(t, "")
	if s, err = Load(getenv); err != nil || s.Exists {
		t.Fatalf("without a file: %+v, %v", s, err)
	}
	if got := s.Get(Image); got.From != FromDefault || got.One() != "" {
		t.Errorf("without a file: %+v", got)
	}
}

func TestFaultsNameTheirPlace(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"image: alpine\nrepositry: [x]\n", `config.yaml:2:1: unknown key "repositry" at the top level; known keys are backup_recipients, cache`},
		{"repositores: [x]\n", `config.yaml:1:1: unknown key "repositores" at the top level; did you mean "repositories"?`},
		{"repositories: https://mirror.example\n", "config.yaml:1:15: repositories: expected a list, found"},
		{"repositories:\n  - https://mirror.example/x\n  - ftp://mirror.example/x\n", "config.yaml:3:5: repositories[1]: ftp:// is not supported"},
		{"image: UPPER:case:x\n", "config.yaml:1:8: image: "},
		{"image: ''\n", "config.yaml:1:8: image: is empty: remove the key"},
		{"cache: here\n", "config.yaml:1:8: cache: here: the path must begin with / or ~/"},
		{"cache_from: ['type=nfs,src=/x']\n", "config.yaml:1:14: cache_from"},
		{"image: [\n", "config.yaml:1:"},
	} {
		getenv, _ := env(t, c.text)
		if _, err := Load(getenv); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
	}
	for variable, value := range map[string]string{"SOV_REPOSITORIES": "ftp://x/y", "SOV_CACHE_FROM": "type=nfs", "SOV_IMAGE": "UPPER:case:x"} {
		getenv, _ := env(t, "", variable, value)
		if _, err := Load(getenv); err == nil || !strings.Contains(err.Error(), "$"+variable+": ") {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

func TestNamedFile(t *testing.T) {
	_, path := env(t, "image: alpine:3.22\n")
	t.Chdir(t.TempDir())
	named := func(value string) func(string) string {
		return func(name string) string {
			if name == "SOV_CONFIG" {
				return value
			}
			return ""
		}
	}
	if s, err := Load(named(path)); err != nil || s.Get(Image).One() != "alpine:3.22" {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := Load(named(os.DevNull)); err != nil || s.Get(Image).One() != "" {
		t.Errorf("an empty one: %+v, %v", s, err)
	}
	if s, err := Load(func(name string) string { return map[string]string{"SOV_CONFIG": path, "ANDROID_SERIAL": "R5"}[name] }); err != nil || s.Get(Device).One() != "adb:R5" {
		t.Errorf("$ANDROID_SERIAL: %+v, %v", s, err)
	}
	if _, err := Load(named("absent.yaml")); err == nil || !strings.Contains(err.Error(), "$SOV_CONFIG: open absent.yaml") {
		t.Errorf("absent: %v", err)
	}
}

// TestRecipients: a recipient is not a path, and the two words of an SSH key are one value.
func TestRecipients(t *testing.T) {
	const (
		x   = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
		ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGWQjEzNSxTtNUE9wjStMnAyGMXhPnqSnpUxpjYUZIzt"
	)
	getenv, path := env(t, "backup_recipients: ["+x+", "+ssh+" me@here, /etc/keys]\n")
	s, err := Load(getenv)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Get(Recipients).Values; !slices.Equal(got, []string{x, ssh + " me@here", "/etc/keys"}) {
		t.Errorf("the file: %q", got)
	}
	variables := map[string]string{"SOV_CONFIG": path, "SOV_BACKUP_RECIPIENTS": ssh + "\n" + x + " " + ssh + " /etc/keys"}
	if s, err = Load(func(name string) string { return variables[name] }); err != nil {
		t.Fatal(err)
	}
	if got := s.Get(Recipients).Values; !slices.Equal(got, []string{ssh, x, ssh, "/etc/keys"}) {
		t.Errorf("the variable: %q", got)
	}
	for _, bad := range []string{"age1x", "ssh-dss AAAA", "ssh-ed25519", "keys.txt"} {
		getenv, _ := env(t, "backup_recipients: ["+bad+"]\n")
		if _, err := Load(getenv); err == nil || !strings.Contains(err.Error(), "backup_recipients[0]") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
