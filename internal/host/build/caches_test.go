package build

import (
	"testing"
)

func TestRemotesOfEnvironment(t *testing.T) {
	env := map[string]string{"SOV_CACHE_FROM": "type=dir,src=/a registry.example.com/b", "SOV_CACHE_TO": "registry.example.com/b,mode=min"}
	getenv := func(name string) string { return env[name] }
	r, err := Remotes(nil, nil, nil, false, getenv)
	if err != nil || len(r.From) != 2 || len(r.To) != 1 || r.To[0].Max || r.From[1] != r.To[0].Cache {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := Remotes(nil, nil, nil, true, getenv); err != nil || len(r.From) != 1 || len(r.To) != 0 {
		t.Errorf("offline: %+v, %v", r, err)
	}
	if _, err := Remotes([]string{"registry.example.com/b"}, nil, nil, true, getenv); err == nil {
		t.Error("a registry is taken offline")
	}
	if r, err := Remotes([]string{"type=dir,src=/c"}, nil, nil, false, getenv); err != nil || len(r.From) != 1 || r.From[0].Name() != "/c" {
		t.Errorf("the flag does not come first: %+v, %v", r, err)
	}
}
