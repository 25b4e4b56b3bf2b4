package tailscale

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	goversion "go/version"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/sovereign-sql/sov/internal/confine"
	"github.com/sovereign-sql/sov/pipeline"
)

// errNoGo says what to do where there is no Go.
var errNoGo = errors.New("building Tailscale needs the go command, and there is none in PATH; " +
	"install Go from https://go.dev/dl/, or turn Tailscale off in the recipe")

func (s *stage) goCommand() (string, error) {
	if s.Go != "" {
		return s.Go, nil
	}
	path, err := exec.LookPath("go")
	if err != nil {
		return "", errNoGo
	}
	return filepath.Abs(path)
}

// goVersion returns what `go env GOVERSION` says, "go1.26.8".
func (s *stage) goVersion(ctx context.Context) (string, error) {
	program, err := s.goCommand()
	if err != nil {
		return "", err
	}
	return s.goEnv(ctx, program, "GOVERSION")
}

// goEnv returns one of the go command's settings.
func (s *stage) goEnv(ctx context.Context, program, name string) (string, error) {
	cmd := exec.CommandContext(ctx, program, "env", name)
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	cmd.Dir = os.TempDir() // not in a module that asks for another version
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s env %s: %w", program, name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// kept are the variables of Go's that say where to take modules from and where
// to keep them; no other reaches the build.
var kept = []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOINSECURE", "GOAUTH", "GOVCS"}

// environment returns the build's environment: everything that decides what
// comes out is fixed, and Go's settings in variables and its env file
// (GOFLAGS, GOEXPERIMENT, GOARM64, ...) are dropped, but for the kept ones.
func (s *stage) environment(ctx context.Context, program string) ([]string, error) {
	cmd := exec.CommandContext(ctx, program, append([]string{"env", "-json"}, kept...)...)
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	cmd.Dir = os.TempDir()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	settings := map[string]string{}
	if err := json.Unmarshal(out, &settings); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GO") && !strings.HasPrefix(v, "CGO") {
			env = append(env, v)
		}
	}
	if s.Offline {
		settings["GOPROXY"] = "off"
	}
	for _, name := range kept {
		env = append(env, name+"="+settings[name])
	}
	return append(env, "GOENV=off", "GOTOOLCHAIN=local", "GOWORK=off", "GO111MODULE=on", "GOFLAGS=-mod=readonly",
		"CGO_ENABLED=0", "GOOS=linux", "GOARCH="+s.Arch, "GOAMD64=v1", "GOARM64=v8.0"), nil
}

// compile fetches the modules, and builds the program in dir, where it makes the
// pinned module. Only the fetch has a network. It returns the program.
func (s *stage) compile(ctx context.Context, dir string, plain bool, task *pipeline.Task) ([]byte, error) {
	program, err := s.goCommand()
	if err != nil {
		return nil, err
	}
	if err := s.checkGo(ctx); err != nil {
		return nil, err
	}
	env, err := s.environment(ctx, program)
	if err != nil {
		return nil, err
	}
	if env, err = s.withBundle(env, filepath.Join(dir, "proxy")); err != nil {
		return nil, err
	}
	src, err := writeModule(dir)
	if err != nil {
		return nil, err
	}
	task.Step("fetch modules")
	err = runGo(ctx, listModules(program, src, env), task)
	if err != nil && s.Offline {
		return nil, fmt.Errorf("%w\n(offline: all of its modules have to be in Go's module cache; run once without --offline)", err)
	}
	if err != nil {
		return nil, err
	}
	out, tmp := filepath.Join(dir, "out"), filepath.Join(dir, "tmp")
	cache, err := s.buildCache(setting(env, "GOCACHE"), dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{out, tmp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	root, err := s.goEnv(ctx, program, "GOROOT")
	if err != nil {
		return nil, err
	}
	version := strings.TrimPrefix(Version(), "v")
	task.Step("compile")
	err = runGo(ctx, confine.Command{Path: program, Args: []string{"build", "-v", "-tags", buildTags(), "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X tailscale.com/version.shortStamp=" + version + " -X tailscale.com/version.longStamp=" + version,
		"-o", filepath.Join(out, "tailscaled"), command},
		Dir: src, Env: append(env, "GOPROXY=off", "GOCACHE="+cache, "GOTMPDIR="+tmp, "TMPDIR="+tmp, "HOME=/nonexistent"),
		Read: []string{src, root, setting(env, "GOMODCACHE"), filepath.Dir(program)}, Write: []string{out, tmp, cache}, Plain: plain}, task)
	if err != nil {
		return nil, err
	}
	return confine.ReadOutput(out, "tailscaled", maxProgram)
}

// maxProgram bounds tailscaled, in bytes. It has some 30 MiB.
const maxProgram = 1 << 30

// buildCache returns the folder for Go's build cache. The user's own is not it: what a compiler wrote there that a hostile
// source has taken over would be in the user's other programs. The folder around it is closed to other users, nobody among
// them.
func (s *stage) buildCache(users, dir string) (string, error) {
	around := filepath.Join(users, "sov")
	if s.Fresh {
		around = filepath.Join(dir, "gocache")
	}
	cache := filepath.Join(around, "cache")
	if err := os.MkdirAll(around, 0o700); err != nil {
		return "", err
	}
	if err := os.Mkdir(cache, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return cache, nil
}

// writeModule makes the pinned module below dir.
func writeModule(dir string) (src string, err error) {
	src = filepath.Join(dir, "module")
	if err := os.Mkdir(src, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(src, "go.mod"), goMod, 0o644); err != nil {
		return "", err
	}
	return src, os.WriteFile(filepath.Join(src, "go.sum"), goSum, 0o644)
}

// checkGo explains a toolchain that is too old before go build does it less
// well.
func (s *stage) checkGo(ctx context.Context) error {
	have, err := s.goVersion(ctx)
	if err != nil {
		return err
	}
	f, err := modfile.Parse("tailscaled.mod", goMod, nil)
	if err != nil {
		return err
	}
	if goversion.Compare(have, "go"+f.Go.Version) < 0 {
		return fmt.Errorf("needs Go %s or newer, and the go command here is %s; install a newer one from https://go.dev/dl/", f.Go.Version, have)
	}
	return nil
}

// runGo runs the go command and ends it when ctx ends. It prints the package it
// compiles, which becomes progress.
func runGo(ctx context.Context, cmd confine.Command, task *pipeline.Task) error {
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	complaints := make(chan []string, 1)
	go func() { complaints <- readOutput(r, task) }()
	err := cmd.Run(ctx)
	w.Close()
	said := <-complaints
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("go %s: %w:\n  %s", cmd.Args[0], err, strings.Join(said, "\n  "))
	}
	return nil
}

// readOutput shows packages as progress and returns the last of the other
// lines, which are complaints.
func readOutput(r io.Reader, task *pipeline.Task) []string {
	const keep = 20
	var said []string
	packages := 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			task.Step(strings.TrimPrefix(line, "go: "))
		case line != "" && !strings.ContainsAny(line, " :"):
			packages++
			task.Step(fmt.Sprintf("compile package %d, %s", packages, line))
		default:
			said = append(said, line)
			said = said[max(0, len(said)-keep):]
		}
	}
	_, _ = io.Copy(io.Discard, r) // past a line too long for the scanner
	return said
}
