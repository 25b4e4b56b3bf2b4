package kernel

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
)

// A toolchain is the set of programs that compile a kernel for one
// architecture.
type toolchain struct {
	arch string
	path string // $PATH
}

func (o Options) toolchain() toolchain {
	path := o.Path
	if path == "" {
		path = os.Getenv("PATH")
	}
	return toolchain{o.Arch, path}
}

// prefix returns the prefix of "gcc" in the target compiler's name.
func (t toolchain) prefix() string {
	if t.arch == runtime.GOARCH {
		return ""
	}
	a, err := arch.Get(t.arch)
	if err != nil {
		return ""
	}
	return a.Triplet + "-"
}

// A tool is a program or header and its Debian package.
type tool struct{ name, debian string }

// programs returns the programs that must be in PATH.
func (t toolchain) programs() []tool {
	tools := []tool{
		{"make", "make"}, {"gcc", "gcc"}, {"ld", "binutils"}, {"flex", "flex"}, {"bison", "bison"}, {"bc", "bc"},
		{"tar", "tar"}, {"xz", "xz-utils"}, {"gzip", "gzip"},
	}
	if p := t.prefix(); p != "" {
		target := strings.ReplaceAll(strings.TrimSuffix(p, "-"), "_", "-") // as in the names of Debian's packages
		tools = append(tools, tool{p + "gcc", "gcc-" + target}, tool{p + "ld", "binutils-" + target})
	}
	return tools
}

// headers returns the headers that the build's host programs include.
func (t toolchain) headers() []tool {
	headers := []tool{{"stdlib.h", "libc6-dev"}}
	if t.arch == arch.AMD64 { // objtool
		headers = append(headers, tool{"gelf.h", "libelf-dev"})
	}
	return headers
}

// A MissingToolsError lists everything that is missing for compiling a kernel.
type MissingToolsError struct {
	Tools    []string // programs and header files
	Packages []string // their Debian packages
}

func (e *MissingToolsError) Error() string {
	return fmt.Sprintf("building the kernel needs %s; install with: apt-get install -y --no-install-recommends %s (or give a finished kernel with --kernel, or a remote cache that has one with --cache-from)",
		strings.Join(e.Tools, ", "), strings.Join(e.Packages, " "))
}

// check returns a *MissingToolsError, or errNotLinux, if the kernel cannot be
// built here.
func (t toolchain) check(ctx context.Context) error {
	if runtime.GOOS != "linux" {
		return errNotLinux
	}
	var missing []tool
	for _, p := range t.programs() {
		if _, err := t.find(p.name); err != nil {
			missing = append(missing, p)
		}
	}
	gcc, err := t.find("gcc")
	for _, h := range t.headers() {
		if err != nil || !t.hasHeader(ctx, gcc, h.name) {
			missing = append(missing, h)
		}
	}
	if len(missing) == 0 {
		return ctx.Err()
	}
	e := &MissingToolsError{}
	for _, m := range missing {
		e.Tools = append(e.Tools, m.name)
		e.Packages = append(e.Packages, m.debian)
	}
	slices.Sort(e.Packages)
	e.Packages = slices.Compact(e.Packages)
	return e
}

func (t toolchain) hasHeader(ctx context.Context, gcc, header string) bool {
	cmd := exec.CommandContext(ctx, gcc, "-E", "-x", "c", "-o", os.DevNull, "-")
	cmd.Env = t.environment()
	cmd.Stdin = strings.NewReader("#include <" + header + ">\n")
	return cmd.Run() == nil
}

// find returns the path of a program.
func (t toolchain) find(name string) (string, error) {
	for _, dir := range filepath.SplitList(t.path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: fs.ErrNotExist}
}

// folders returns the folders of $PATH, and the parent of the compiler's folder, which has the
// libraries of a compiler that is not the system's. It leaves out the user's home and folders that
// contain it, so that a source's programs cannot read the home.
func (t toolchain) folders() []string {
	dirs := filepath.SplitList(t.path)
	if compiler, err := t.find(t.prefix() + "gcc"); err == nil && filepath.Base(filepath.Dir(compiler)) == "bin" {
		dirs = append(dirs, filepath.Dir(filepath.Dir(compiler)))
	}
	home, _ := os.UserHomeDir()
	var out []string
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if dir = filepath.Clean(dir); !filepath.IsAbs(dir) || err != nil || !info.IsDir() || dir == "/" || strings.HasPrefix(home+"/", dir+"/") {
			continue
		}
		out = append(out, dir)
	}
	return out
}

// environment returns the whole environment of build commands. The user's CFLAGS, MAKEFLAGS, ARCH
// and LANG do not affect the kernel.
func (t toolchain) environment() []string {
	return []string{"PATH=" + t.path, "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
}

type toolVersion struct{ tool, version string }

// versions returns the tools that affect the image, the compiler first, each with the first line of
// its --version output, or "missing".
func (t toolchain) versions(ctx context.Context) []toolVersion {
	var out []toolVersion
	for _, tool := range []struct{ label, program string }{
		{"compiler", t.prefix() + "gcc"}, {"linker", t.prefix() + "ld"}, {"gzip", "gzip"},
	} {
		out = append(out, toolVersion{tool.label, t.version(ctx, tool.program)})
	}
	return out
}

func (t toolchain) version(ctx context.Context, program string) string {
	path, err := t.find(program)
	if err != nil {
		return "missing"
	}
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = t.environment()
	text, err := cmd.Output()
	if err != nil {
		return "broken: " + err.Error()
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
