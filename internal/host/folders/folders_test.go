package folders

import (
	"path/filepath"
	"testing"
)

func TestVariables(t *testing.T) {
	env := map[string]string{"SOV_CACHE_DIR": "/a", "SOV_STATE_DIR": "/b", "SOV_CONFIG_DIR": "/c"}
	for want, folder := range map[string]func(func(string) string) (string, error){"/a": Cache, "/b": State, "/c": Config} {
		if got, err := folder(func(name string) string { return env[name] }); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	for name, folder := range map[string]func(func(string) string) (string, error){"cache": Cache, "state": State, "config": Config} {
		got, err := folder(getenv)
		if rel, bad := filepath.Rel(home, got); err != nil || bad != nil || !filepath.IsLocal(rel) || filepath.Base(got) != "sov" {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	env["XDG_STATE_HOME"] = "/state"
	if got, err := State(getenv); err != nil || got != "/state/sov" {
		t.Errorf("state: %s, %v", got, err)
	}
}
