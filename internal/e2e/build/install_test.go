package build

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/sovereign-sql/sov/internal/testkit/goproxytest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestGoInstall installs sov with go install from a module proxy that serves these sources, and
// with make build from a copy of them. Both build the same machine. The first compiles sov-init and
// sov-runner from the module; the second embeds them.
func TestGoInstall(t *testing.T) {
	const path, version = "github.com/sovereign-sql/sov", "v0.9.9-test"
	checkout, names := sovtest.Checkout(t)
	proxy, bin := t.TempDir(), t.TempDir()
	goproxytest.Add(t, proxy, module.Version{Path: path, Version: version}, checkout, names)

	output(t, checkout, nil, "make", "build", "VERSION="+version)
	fetching := []string{"GOPROXY=" + goproxytest.URL(proxy) + "," + goproxytest.Downloaded(t) + ",off", "GONOSUMDB=*", "GOMODCACHE=" + t.TempDir(),
		"GOFLAGS=-modcacherw -trimpath"} // -trimpath, so that the next test can use the results in Go's build cache
	output(t, bin, append(fetching, "GOBIN="+bin), "go", "install", path+"/cmd/sov@"+version)
	if got := output(t, bin, nil, filepath.Join(bin, "sov"), "version"); !strings.HasPrefix(got, "sov "+version+" ") {
		t.Errorf("sov version says %s", got)
	}

	// The user's settings must not change the bytes of the programs.
	settings := append(fetching, "GOAMD64=v3", "GOARM64=v9.0", "GOEXPERIMENT=arenas", "GOFLAGS=-modcacherw -gcflags=-N -ldflags=-v")
	for _, arch := range []string{"arm64", "amd64"} {
		build := append([]string{"build", "sql", "--arch", arch, "--lock", sovtest.SharedLock(arch)}, sovtest.FromMirror()...)
		made, installed := t.TempDir(), t.TempDir()
		output(t, made, nil, filepath.Join(checkout, "bin", "sov"), build...)
		output(t, installed, settings, filepath.Join(bin, "sov"), build...)
		digests := func(dir string) string {
			return output(t, filepath.Join(dir, "out", "sql", arch), nil, "sh", "-c", "sha256sum *")
		}
		if want, got := digests(made), digests(installed); want != got {
			t.Errorf("%s: make build's sov makes\n%sand go install's\n%s", arch, want, got)
		}
	}
	// The programs are cached: sov no longer needs the network or Go's caches.
	gone := []string{"GOPROXY=off", "GOMODCACHE=" + t.TempDir()}
	again := append([]string{"build", "sql", "--arch", "amd64", "--lock", sovtest.SharedLock("amd64"), "--offline"}, sovtest.FromMirror()...)
	output(t, t.TempDir(), gone, filepath.Join(bin, "sov"), again...)
}

// TestCheckoutWithoutPrograms compiles sov in a checkout where make build has not run.
func TestCheckoutWithoutPrograms(t *testing.T) {
	dir := t.TempDir()
	overlay := `{"Replace": {`
	for _, name := range []string{"sov-init-arm64", "sov-init-amd64", "sov-runner-arm64", "sov-runner-amd64"} {
		overlay += `"` + filepath.Join(sovtest.Root(), "internal/host/embedded/bin", name+".zst") + `": "",`
	}
	overlay = strings.TrimSuffix(overlay, ",") + "}}"
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), []byte(overlay), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "sov")
	output(t, sovtest.Root(), nil, "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "./cmd/sov")
	for _, args := range [][]string{append([]string{"build", "sql"}, sovtest.FromMirror()...), {"doctor", "--only", "tools"}} {
		command := exec.Command(program, args...)
		command.Dir = t.TempDir()
		result, err := sovtest.Finish(command)
		if err != nil {
			t.Fatal(err)
		}
		if result.Status == 0 || !strings.Contains(result.Stdout+result.Stderr, "make build") {
			t.Errorf("sov %s: %v", args[0], result)
		}
	}
}

// output runs a program in a folder with additional variables and returns its standard output.
func output(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s%s", command, err, out, stderr.String())
	}
	return string(out)
}
