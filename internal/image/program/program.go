// Package program checks whether a program can start in a root file system: it exists, is
// executable, is for the processor, and its interpreter and libraries exist. It only reads files
// and does not run anything. It does not know libraries that a program loads later (dlopen(3)).
package program

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// Limits of the check of one program.
const (
	maxInterpreters = 4   // scripts of scripts; Linux allows 5 (fs/exec.c, exec_binprm)
	maxLibraries    = 500 // PostgreSQL's server has 30
	maxLine         = 256 // of a script's first line (BINPRM_BUF_SIZE)
	maxConfig       = 64 << 10
)

// A Checker checks programs of one root file system. It caches the results for libraries.
type Checker struct {
	tree *tree.Tree
	arch arch.Arch
	dirs []string              // default folders of the dynamic loaders
	seen map[*tree.Inode]error // libraries, and programs without an environment of their own
}

// New returns a Checker for an architecture (Go's name).
func New(t *tree.Tree, goarch string) (*Checker, error) {
	a, err := arch.Get(goarch)
	if err != nil {
		return nil, err
	}
	c := &Checker{tree: t, arch: a, seen: map[*tree.Inode]error{}}
	c.dirs = c.configured()
	for _, dir := range []string{"lib", "usr/local/lib", "usr/lib"} {
		c.dirs = append(c.dirs, "/"+dir, "/"+dir+"64", "/"+dir+"/"+a.Triplet)
	}
	return c, nil
}

// configured returns the folders in the configuration of the dynamic loaders: of musl
// (ldso/dynlink.c, etc/ld-musl-ARCH.path) and of glibc (ld.so.conf(5)).
func (c *Checker) configured() (dirs []string) {
	names := []string{"etc/ld-musl-" + c.arch.Alpine + ".path", "etc/ld.so.conf"}
	if _, n, err := c.tree.Resolve("etc/ld.so.conf.d"); err == nil {
		for _, e := range n.Entries() {
			names = append(names, "etc/ld.so.conf.d/"+e.Name)
		}
	}
	for _, name := range names {
		_, n, err := c.tree.Resolve(name)
		if err != nil || !n.IsRegular() || n.Content.Size > maxConfig {
			continue
		}
		text, err := io.ReadAll(n.Content.Open())
		if err != nil {
			continue // writing the image reports the error
		}
		for _, dir := range strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == ':' }) {
			if dir = strings.TrimSpace(dir); path.IsAbs(dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// Check returns an error that says why the program at an absolute path cannot start, or nil. Of env
// it uses PATH and LD_LIBRARY_PATH.
func (c *Checker) Check(name string, env map[string]string) error {
	return c.check(name, env, 0)
}

func (c *Checker) check(name string, env map[string]string, depth int) error {
	_, n, err := c.tree.Resolve(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not in the image: add the package that has it to packages.install, or the file itself to files or copy", name)
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case !n.IsRegular():
		return fmt.Errorf("%s is not a file", name)
	case n.Mode&0o111 == 0:
		return fmt.Errorf("%s is not executable: give it the mode \"0755\"", name)
	case depth > maxInterpreters:
		return fmt.Errorf("%s is a script of scripts of scripts", name)
	}
	start := make([]byte, min(n.Content.Size, maxLine))
	if _, err := io.ReadFull(n.Content.Open(), start); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case bytes.HasPrefix(start, []byte("#!")):
		return c.script(name, start[2:], env, depth)
	case bytes.HasPrefix(start, []byte(elf.ELFMAG)):
		return c.binary(name, n, env)
	}
	return nil
}

// script checks the interpreter that a script's first line names.
func (c *Checker) script(name string, start []byte, env map[string]string, depth int) error {
	line, err := bufio.NewReader(bytes.NewReader(start)).ReadString('\n')
	words := strings.Fields(line)
	if err != nil && len(start) == maxLine-2 || len(words) == 0 {
		return nil // too long: unknown, or an error of the kernel
	}
	interpreter := words[0]
	if !path.IsAbs(interpreter) {
		return nil // relative to the working directory
	}
	if err := c.check(interpreter, env, depth+1); err != nil {
		return fmt.Errorf("%s is a script: %w", name, err)
	}
	if path.Base(interpreter) != "env" || len(words) != 2 || strings.ContainsAny(words[1], "=-/") || env["PATH"] == "" {
		return nil
	}
	for _, dir := range strings.Split(env["PATH"], ":") {
		if _, n, err := c.tree.Resolve(path.Join(dir, words[1])); err == nil && n.IsRegular() && n.Mode&0o111 != 0 {
			return nil
		}
	}
	return fmt.Errorf("%s is a script for %s, which is not in %s: add its package to packages.install", name, words[1], env["PATH"])
}

// binary checks an ELF program.
func (c *Checker) binary(name string, n *tree.Inode, env map[string]string) error {
	library := strings.FieldsFunc(env["LD_LIBRARY_PATH"], func(r rune) bool { return r == ':' || r == ';' })
	if err, ok := c.seen[n]; ok && len(library) == 0 {
		return err
	}
	l := &linking{Checker: c, dirs: library, found: map[*tree.Inode]bool{}}
	err := l.link(name, n)
	if len(library) == 0 {
		c.seen[n] = err
	}
	return err
}

// A linking simulates the dynamic loader for one program.
type linking struct {
	*Checker
	dirs   []string // LD_LIBRARY_PATH and the run paths of everything loaded so far
	loader string   // the program's interpreter
	found  map[*tree.Inode]bool
}

// link reads a program or a library, and the libraries that it needs.
func (l *linking) link(name string, n *tree.Inode) error {
	if l.found[n] {
		return nil
	}
	if len(l.found) >= maxLibraries {
		return fmt.Errorf("%s: more than %d libraries are needed", name, maxLibraries)
	}
	first := len(l.found) == 0
	l.found[n] = true
	err := tablesFit(n.Content)
	var file *elf.File
	if err == nil {
		file, err = elf.NewFile(n.Content)
	}
	if err != nil {
		return fmt.Errorf("%s is damaged: %w", name, err)
	}
	defer file.Close()
	if machine := machines[l.arch.Go]; file.Machine != machine {
		return fmt.Errorf("%s is for %s, and the machine is for %s (%s): take the file for %s", name, file.Machine, l.arch.Go, machine, l.arch.Go)
	}
	if first {
		if err := l.interpreter(name, file); err != nil {
			return err
		}
	}
	needed, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		paths, err := file.DynString(tag)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, dir := range strings.Split(strings.Join(paths, ":"), ":") {
			dir = strings.NewReplacer("$ORIGIN", path.Dir(name), "${ORIGIN}", path.Dir(name)).Replace(dir)
			if path.IsAbs(dir) && !slices.Contains(l.dirs, dir) {
				l.dirs = append(l.dirs, dir)
			}
		}
	}
	for _, library := range needed {
		if err := l.library(name, library); err != nil {
			return err
		}
	}
	return nil
}

// tablesFit returns an error if a file is too short for the tables in its header: package elf
// allocates them before it reads them. Positions and sizes are from the System V ABI's ELF header.
func tablesFit(content tree.Content) error {
	var header [64]byte
	if _, err := content.ReadAt(header[:], 0); err != nil && err != io.EOF {
		return err
	}
	sectionsAt, programs, programSize, sections, sectionSize := header[32:36], header[44:], int64(32), header[48:], int64(40)
	if elf.Class(header[elf.EI_CLASS]) == elf.ELFCLASS64 {
		sectionsAt, programs, programSize, sections, sectionSize = header[40:48], header[56:], 56, header[60:], 64
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if elf.Data(header[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	if order.Uint16(sections) == 0 && len(bytes.Trim(sectionsAt, "\x00")) > 0 { // the first section header has their number
		return errors.New("it has 65,280 sections or more")
	}
	if size := int64(order.Uint16(programs))*programSize + int64(order.Uint16(sections))*sectionSize; size > content.Size {
		return fmt.Errorf("its tables of %d bytes do not fit into %d", size, content.Size)
	}
	return nil
}

// machines are the processors in the header of ELF files.
var machines = map[string]elf.Machine{arch.ARM64: elf.EM_AARCH64, arch.AMD64: elf.EM_X86_64}

// interpreter checks a program's dynamic loader. A static program does not have one.
func (l *linking) interpreter(name string, file *elf.File) error {
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, min(p.Filesz, maxLine))
		if _, err := io.ReadFull(p.Open(), text); err != nil {
			return fmt.Errorf("%s is damaged: %w", name, err)
		}
		l.loader = string(bytes.TrimRight(text, "\x00"))
		if _, n, err := l.tree.Resolve(l.loader); err != nil || !n.IsRegular() {
			return fmt.Errorf("%s needs the dynamic loader %s, which is not in the image: it was built for another system; add a build for Alpine, a static one, or the package gcompat", name, l.loader)
		}
	}
	return nil
}

// library finds a needed library by its name and links it.
func (l *linking) library(by, name string) error {
	if name == path.Base(l.loader) || l.ofLoader(name) {
		return nil
	}
	places := slices.Concat(l.dirs, l.Checker.dirs)
	if strings.Contains(name, "/") {
		places = []string{"/"}
	}
	for _, dir := range places {
		full := path.Join(dir, name)
		if _, n, err := l.tree.Resolve(full); err == nil && n.IsRegular() {
			return l.link(full, n)
		}
	}
	return fmt.Errorf("%s needs the library %s, which is not in the image: add the package that has it to packages.install (so:%s)", by, name, name)
}

// ofLoader reports whether a library is built into musl's loader (load_library in ldso/dynlink.c).
func (l *linking) ofLoader(name string) bool {
	rest, ok := strings.CutPrefix(name, "lib")
	return ok && strings.HasPrefix(path.Base(l.loader), "ld-musl-") &&
		slices.ContainsFunc([]string{"c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."}, func(own string) bool { return strings.HasPrefix(rest, own) })
}
