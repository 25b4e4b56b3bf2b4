package gobuild

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// TestEnvironment reads the environment of builds with the go command itself.
func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"GOFLAGS": "-race -modcacherw", "GOEXPERIMENT": "arenas", "GOARM64": "v9.0", "GOAMD64": "v3", "CGO_ENABLED": "1", "CGO_CFLAGS": "-O0",
		"GOWORK": "/somewhere/go.work", "GOPROXY": "https://proxy.example", "GONOSUMDB": "example.com", "GOFIPS140": "latest",
	} {
		t.Setenv(name, value)
	}
	ask := func(g Go, arch string) map[string]string {
		t.Helper()
		program, err := g.Path()
		if err != nil {
			t.Fatal(err)
		}
		env, err := g.Environment(t.Context(), arch)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "env", "-json")
		cmd.Env, cmd.Dir = env, t.TempDir()
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := ask(Go{Toolchain: "local"}, "arm64")
	for name, want := range map[string]string{
		"GOFLAGS": "-mod=readonly -modcacherw", "GOEXPERIMENT": "", "GOARM64": "v8.0", "CGO_ENABLED": "0", "CGO_CFLAGS": "-O2 -g", "GOWORK": "off",
		"GOPROXY": "https://proxy.example", "GONOSUMDB": "example.com", "GOFIPS140": "off", "GOOS": "linux", "GOARCH": "arm64", "GOTOOLCHAIN": "local",
	} {
		if got[name] != want {
			t.Errorf("%s = %q in the build, want %q", name, got[name], want)
		}
	}
	if got := ask(Go{Toolchain: "local"}, "amd64"); got["GOAMD64"] != "v1" {
		t.Errorf("GOAMD64 = %q in the build, want v1", got["GOAMD64"])
	}
	if got := ask(Go{Toolchain: "local", Offline: true}, "arm64"); got["GOPROXY"] != "off" {
		t.Errorf("GOPROXY = %q offline, want off", got["GOPROXY"])
	}
}
