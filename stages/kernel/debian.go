package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sovereign-sql/sov/internal/fetch"
)

// debian writes the source archive inside a Debian package, NAME or
// NAME=VERSION, into f and returns the package's version. apt finds and
// verifies the package; nothing is installed, and apt's own lists stay as they
// are.
func (g getter) debian(ctx context.Context, f *os.File, pkg string) (version string, err error) {
	if pkg == "" || strings.HasPrefix(pkg, "-") || strings.ContainsAny(pkg, "/ \t\n") {
		return "", fmt.Errorf("%q is not the name of a Debian package", pkg)
	}
	if g.fetch.Transport == fetch.Offline {
		return "", fetch.ErrOffline
	}
	for _, program := range []string{"apt-get", "dpkg-deb"} {
		if _, err := g.tools.find(program); err != nil {
			return "", fmt.Errorf("there is no %s here: not a Debian system", program)
		}
	}
	dir, err := os.MkdirTemp("", "sov-kernel-apt-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	g.task.Step("download Debian's " + pkg)
	deb, err := g.aptDownload(ctx, dir, pkg)
	if err != nil {
		return "", err
	}
	g.task.Step("unpack " + filepath.Base(deb))
	if err := g.sourceInDeb(ctx, f, deb); err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Base(deb), err)
	}
	version, err = g.output(ctx, dir, "dpkg-deb", "--field", deb, "Version")
	return strings.TrimSpace(version), err
}

// aptDownload downloads a package with this system's package lists or, if they are missing or too
// old for the archive, with freshly fetched lists.
func (g getter) aptDownload(ctx context.Context, dir, pkg string) (deb string, err error) {
	_, first := g.output(ctx, dir, "apt-get", "--quiet", "download", pkg)
	if first != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		state := filepath.Join(dir, "state")
		if err := os.MkdirAll(filepath.Join(state, "lists", "partial"), 0o755); err != nil {
			return "", err
		}
		if err := os.MkdirAll(filepath.Join(state, "cache", "archives", "partial"), 0o755); err != nil {
			return "", err
		}
		own := []string{"--quiet", "-o", "Dir::State=" + state, "-o", "Dir::Cache=" + filepath.Join(state, "cache"),
			"-o", "Dir::State::status=/dev/null", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=1"}
		if _, err := g.output(ctx, dir, "apt-get", append(own, "update")...); err != nil {
			return "", err
		}
		if _, err := g.output(ctx, dir, "apt-get", append(own, "download", pkg)...); err != nil {
			return "", err
		}
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", errors.New("apt-get download left no package")
	}
	return debs[0], nil
}

// output runs a program in dir and returns its standard output. Its standard error becomes part of
// the error.
func (g getter) output(ctx context.Context, dir, program string, args ...string) (string, error) {
	path, err := g.tools.find(program)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	// The environment also configures apt: proxies, APT_CONFIG.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%s: %s", program, aptComplaint(string(exit.Stderr)))
	}
	return string(text), err
}

// aptComplaint returns apt's error lines, without its warnings.
func aptComplaint(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "E: "); ok {
			lines = append(lines, rest)
		}
	}
	if len(lines) == 0 {
		return strings.TrimSpace(stderr)
	}
	return strings.Join(lines, "; ")
}

// sourceInDeb writes usr/src/linux-source-*.tar.* of a package into f.
func (g getter) sourceInDeb(ctx context.Context, f *os.File, deb string) error {
	path, err := g.tools.find("dpkg-deb")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--fsys-tarfile", deb)
	cmd.Env = g.tools.environment()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		cancel() // the rest is not needed
		_ = cmd.Wait()
	}()
	for tr := tar.NewReader(out); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return errors.New("it has no usr/src/linux-source-*.tar.* inside; deb:NAME wants a package such as linux-source-6.1")
		}
		if err != nil {
			return fmt.Errorf("read package: %w", err)
		}
		match, err := filepath.Match("usr/src/linux-source-*.tar.*", strings.TrimPrefix(h.Name, "./"))
		if err != nil || !match || h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > maxArchive {
			return fmt.Errorf("%s is larger than %d bytes", h.Name, int64(maxArchive))
		}
		_, err = io.Copy(f, tr)
		return err
	}
}
