package build

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/host/settings"
)

func TestRemotes(t *testing.T) {
	getenv := func(string) string { return "" }
	set := func(values ...string) settings.Value {
		return settings.Value{Values: values, From: settings.FromEnvironment, Where: "$SOV_CACHE_FROM"}
	}
	none := settings.Value{From: settings.FromDefault}
	from, to := set("type=dir,src=/a", "registry.example.com/b"), set("registry.example.com/b,mode=min")
	r, err := Remotes(from, to, none, nil, false, getenv)
	if err != nil || len(r.From) != 2 || len(r.To) != 1 || r.To[0].Max || r.From[1] != r.To[0].Cache {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := Remotes(from, to, none, nil, true, getenv); err != nil || len(r.From) != 1 || len(r.To) != 0 {
		t.Errorf("offline: %+v, %v", r, err)
	}
	if _, err := Remotes(flag([]string{"registry.example.com/b"}), set(), none, nil, true, getenv); err == nil {
		t.Error("a registry is taken offline")
	}
}
