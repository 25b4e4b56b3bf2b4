// Package gobuild runs the go command to compile the programs of a machine. Only their sources and
// the toolchain decide their bytes, not the user's environment. The user's settings decide only
// where modules come from and where Go stores them.
package gobuild

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/confine"
)

// ErrNoGo says that there is no go command.
var ErrNoGo = errors.New("there is no go command in PATH: install Go from https://go.dev/dl/")

// A Go is a go command and its options.
type Go struct {
	Program   string // its path; empty: the one in PATH
	Toolchain string // the toolchain to use, "go1.26.8", which the go command fetches if needed; "local": its own
	Offline   bool   // take modules only from Go's module cache
}

// Path returns the path of the go command, or ErrNoGo.
func (g Go) Path() (string, error) {
	if g.Program != "" {
		return g.Program, nil
	}
	path, err := exec.LookPath("go")
	if err != nil {
		return "", ErrNoGo
	}
	return filepath.Abs(path)
}

// kept lists Go's variables for the sources and the caches of modules. A build sees no other
// variables of the user.
var kept = []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOINSECURE", "GOAUTH", "GOVCS"}

// Environment returns the environment of a build for an architecture. It fixes everything that
// decides the output: Go's settings in variables and in its env file (GOFLAGS, GOEXPERIMENT,
// GOARM64, ...) are dropped, except those about fetching.
func (g Go) Environment(ctx context.Context, arch string) ([]string, error) {
	program, err := g.Path()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"env", "-json", "GOFLAGS"}, kept...)...)
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	cmd.Dir = os.TempDir() // not in a module that requires another version
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s env: %w", program, err)
	}
	settings := map[string]string{}
	if err := json.Unmarshal(out, &settings); err != nil {
		return nil, fmt.Errorf("%s env: %w", program, err)
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GO") && !strings.HasPrefix(v, "CGO") {
			env = append(env, v)
		}
	}
	if g.Offline {
		settings["GOPROXY"] = "off"
	}
	for _, name := range kept {
		env = append(env, name+"="+settings[name])
	}
	flags := "-mod=readonly"
	if slices.Contains(strings.Fields(settings["GOFLAGS"]), "-modcacherw") {
		flags += " -modcacherw" // fetched modules stay writable, so that they can be removed
	}
	return append(env, "GOENV=off", "GOTOOLCHAIN="+g.Toolchain, "GOWORK=off", "GO111MODULE=on", "GOFLAGS="+flags,
		"CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0"), nil
}

// Version returns the version of a go command's own toolchain, "go1.26.8".
func Version(ctx context.Context, program string) (string, error) {
	return version(ctx, program, append(os.Environ(), "GOTOOLCHAIN=local"))
}

// Check returns an error unless the go command uses the required toolchain. env is from
// Environment. A missing toolchain is fetched.
func (g Go) Check(ctx context.Context, env []string) error {
	program, err := g.Path()
	if err != nil {
		return err
	}
	got, err := version(ctx, program, env)
	if err == nil && got != g.Toolchain {
		err = fmt.Errorf("%s is %s", program, got)
	}
	if err != nil {
		return fmt.Errorf("toolchain %s: %w: install it from https://go.dev/dl/, or let the go command fetch it", g.Toolchain, err)
	}
	return nil
}

func version(ctx context.Context, program string, env []string) (string, error) {
	return variable(ctx, program, env, "GOVERSION")
}

// Variable returns a setting of the go command. env is from Environment.
func (g Go) Variable(ctx context.Context, env []string, name string) (string, error) {
	program, err := g.Path()
	if err != nil {
		return "", err
	}
	return variable(ctx, program, env, name)
}

func variable(ctx context.Context, program string, env []string, name string) (string, error) {
	cmd := exec.CommandContext(ctx, program, "env", name)
	cmd.Env = env
	cmd.Dir = os.TempDir() // not in a module that requires another version
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s env %s: %w: %s", program, name, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Run runs the go command with c, whose Path and output it sets, and ends it when ctx ends. step is
// called with the names of the packages that the command compiles (it needs -v) and the modules
// that it downloads.
func (g Go) Run(ctx context.Context, c confine.Command, step func(string)) (err error) {
	if c.Path, err = g.Path(); err != nil {
		return err
	}
	r, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	complaints := make(chan []string, 1)
	go func() { complaints <- readOutput(r, step) }()
	err = c.Run(ctx)
	w.Close()
	said := <-complaints
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("go %s: %w:\n  %s", c.Args[0], err, strings.Join(said, "\n  "))
	}
	return nil
}

// readOutput calls step for packages and downloads, and returns the last of the other lines, which
// are errors.
func readOutput(r io.Reader, step func(string)) []string {
	const keep = 20
	var said []string
	packages := 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			step(strings.TrimPrefix(line, "go: "))
		case line != "" && !strings.ContainsAny(line, " :"):
			packages++
			step(fmt.Sprintf("compile package %d, %s", packages, line))
		default:
			said = append(said, line)
			said = said[max(0, len(said)-keep):]
		}
	}
	_, _ = io.Copy(io.Discard, r) // the scanner stops at a line that is too long
	return said
}
