package apk

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// Paths of apk's state in a root file system.
const (
	installedPath = "lib/apk/db/installed"
	scriptsPath   = "lib/apk/db/scripts.tar"
	triggersPath  = "lib/apk/db/triggers"
	worldPath     = "etc/apk/world"
	keysPath      = "etc/apk/keys"
)

// maxDatabase is the largest of apk's files, in bytes.
const maxDatabase = 256 << 20

// A database is apk's database of installed packages.
type database struct {
	under    string                // "usr/" if its files are below /usr/lib, as apk 3 keeps them with a merged /usr
	packages []*installedPackage   // in the order of the file, then of installation
	files    map[string]*ownedFile // by path: the current owner
}

// An installedPackage is a package with the names it owns.
type installedPackage struct {
	*Package
	flags    string // f: errors of the installation
	dirs     []*ownedDir
	byDir    map[string]*ownedDir
	triggers []string
	scripts  []Script
}

// An acl is the owner and mode that apk recorded for a file or directory.
type acl struct {
	uid, gid, mode uint32
	xattrs         Checksum // of its extended attributes; empty if there are none
}

// Files and directories are recorded without an acl if it is one of these.
var (
	defaultDirACL  = acl{mode: 0o755}
	defaultFileACL = acl{mode: 0o644}
)

// An ownedDir is a directory of a package, and the package's files in it.
type ownedDir struct {
	path  string // without slashes around it; empty for the root
	acl   acl
	files []*ownedFile
}

// An ownedFile is a file, link or device of a package.
type ownedFile struct {
	name     string // within dir
	dir      *ownedDir
	owner    *installedPackage
	acl      acl
	checksum Checksum // of the content, or a symbolic link's target; empty for devices and FIFOs
}

func (f *ownedFile) path() string { return path.Join(f.dir.path, f.name) }

// Installed returns the packages in a tree's apk database, in its order, or none if the tree has no
// database.
func Installed(t *tree.Tree) ([]*Package, error) {
	db, err := readDatabase(t)
	if err != nil {
		return nil, err
	}
	packages := make([]*Package, len(db.packages))
	for i, p := range db.packages {
		packages[i] = p.Package
	}
	return packages, nil
}

// World returns the content of a tree's /etc/apk/world, or nil if the file does not exist.
func World(t *tree.Tree) ([]Dep, error) {
	text, err := readFile(t, worldPath)
	if err != nil {
		return nil, err
	}
	deps, err := ParseDeps(string(text))
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", worldPath, err)
	}
	return deps, nil
}

// KeysFromTree returns the public keys in a tree's /etc/apk/keys, or none if the directory does not
// exist. It ignores files that do not end in ".pub".
func KeysFromTree(t *tree.Tree) (Keys, error) {
	keys := Keys{}
	_, dir, err := t.Resolve(keysPath)
	if errors.Is(err, fs.ErrNotExist) {
		return keys, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range dir.Entries() {
		if !strings.HasSuffix(e.Name, ".pub") {
			continue
		}
		data, err := readFile(t, keysPath+"/"+e.Name)
		if err != nil {
			return nil, err
		}
		if keys[e.Name], err = ParseKey(data); err != nil {
			return nil, fmt.Errorf("key /%s/%s: %w", keysPath, e.Name, err)
		}
	}
	return keys, nil
}

// readFile returns the content of a file, or nil if it does not exist.
func readFile(t *tree.Tree, p string) ([]byte, error) {
	_, n, err := t.Resolve(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !n.IsRegular() {
		return nil, fmt.Errorf("/%s is not a regular file", p)
	}
	if n.Content.Size > maxDatabase {
		return nil, fmt.Errorf("/%s has %d bytes, more than apk would write", p, n.Content.Size)
	}
	b, err := io.ReadAll(n.Content.Open())
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", p, err)
	}
	return b, nil
}

// readDatabase reads the three files that make up the database. It looks below /usr/lib only if
// /lib does not have them.
func readDatabase(t *tree.Tree) (*database, error) {
	under := ""
	if !exists(t, installedPath) && exists(t, "usr/"+installedPath) {
		under = "usr/"
	}
	text, err := readFile(t, under+installedPath)
	if err != nil {
		return nil, err
	}
	db, err := parseInstalled(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("apk database /%s: %w", under+installedPath, err)
	}
	db.under = under
	if text, err = readFile(t, under+triggersPath); err != nil {
		return nil, err
	}
	if err := db.parseTriggers(bytes.NewReader(text)); err != nil {
		return nil, fmt.Errorf("apk database /%s: %w", under+triggersPath, err)
	}
	if text, err = readFile(t, under+scriptsPath); err != nil {
		return nil, err
	}
	if err := db.parseScripts(bytes.NewReader(text)); err != nil {
		return nil, fmt.Errorf("apk database /%s: %w", under+scriptsPath, err)
	}
	return db, nil
}

func exists(t *tree.Tree, p string) bool {
	_, _, err := t.Resolve(p)
	return err == nil
}

// parseInstalled reads lib/apk/db/installed: the entries of an index, each followed by the
// directories (F:, M:) and files (R:, a:, Z:) of the package.
func parseInstalled(r io.Reader) (*database, error) {
	db := &database{files: map[string]*ownedFile{}}
	var p *installedPackage
	var dir *ownedDir
	var file *ownedFile
	finish := func() error {
		if p == nil {
			return nil
		}
		if err := p.check(); err != nil {
			return err
		}
		db.packages = append(db.packages, p)
		p, dir, file = nil, nil, nil
		return nil
	}
	err := eachLine(r, func(_ int, line string) error {
		if line == "" {
			return finish()
		}
		key, value, err := splitField(line)
		if err != nil {
			return err
		}
		if p == nil {
			p = &installedPackage{Package: &Package{}, byDir: map[string]*ownedDir{}}
		}
		switch key {
		case 'F':
			dir, file = p.dir(value), nil
		case 'R':
			if dir == nil {
				return errors.New("field R names a file, but no field F its directory")
			}
			file = p.addFile(dir, value)
			db.files[file.path()] = file
		case 'M', 'a':
			return setACL(key, value, dir, file)
		case 'Z':
			if file == nil {
				return errors.New("field Z has a checksum, but no field R the file")
			}
			file.checksum, err = ParseChecksum(value)
		case 'f':
			p.flags = value
		case 's':
			p.pinned = value
		default:
			_, err = p.setField(key, value)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return db, finish()
}

// dir returns the package's directory with the given path, and adds it if necessary.
func (p *installedPackage) dir(name string) *ownedDir {
	name = strings.Trim(name, "/")
	d := p.byDir[name]
	if d == nil {
		d = &ownedDir{path: name, acl: defaultDirACL}
		p.byDir[name] = d
		p.dirs = append(p.dirs, d)
	}
	return d
}

func (p *installedPackage) addFile(dir *ownedDir, name string) *ownedFile {
	f := &ownedFile{name: name, dir: dir, owner: p, acl: defaultFileACL}
	dir.files = append(dir.files, f)
	return f
}

func setACL(key byte, value string, dir *ownedDir, file *ownedFile) error {
	a, err := parseACL(value)
	switch {
	case err != nil:
		return err
	case key == 'M' && dir != nil:
		dir.acl = a
	case key == 'a' && file != nil:
		file.acl = a
	default:
		return fmt.Errorf("%c: without a name before it", key)
	}
	return nil
}

// parseACL reads "uid:gid:mode[:checksum]", the mode in octal.
func parseACL(s string) (acl, error) {
	fields := strings.SplitN(s, ":", 4)
	if len(fields) < 3 {
		return acl{}, fmt.Errorf("%q is not uid:gid:mode", s)
	}
	var a acl
	for i, field := range []*uint32{&a.uid, &a.gid, &a.mode} {
		n, err := strconv.ParseUint(fields[i], []int{10, 10, 8}[i], 32)
		if err != nil {
			return acl{}, fmt.Errorf("%q is not uid:gid:mode", s)
		}
		*field = uint32(n)
	}
	if len(fields) == 4 {
		var err error
		if a.xattrs, err = ParseChecksum(fields[3]); err != nil {
			return acl{}, err
		}
	}
	return a, nil
}

func (a acl) String() string {
	s := fmt.Sprintf("%d:%d:%o", a.uid, a.gid, a.mode)
	if a.xattrs != "" {
		s += ":" + string(a.xattrs)
	}
	return s
}

// parseTriggers reads lib/apk/db/triggers: lines of a package's checksum and the patterns of its
// trigger.
func (db *database) parseTriggers(r io.Reader) error {
	return eachLine(r, func(_ int, line string) error {
		words := strings.Fields(line)
		if len(words) == 0 {
			return nil
		}
		if p := db.byChecksum(Checksum(words[0])); p != nil {
			p.triggers = words[1:]
		}
		return nil
	})
}

// parseScripts reads lib/apk/db/scripts.tar, whose files are called "name-version.checksum.type".
func (db *database) parseScripts(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		rest, kind, _ := cutLast(h.Name, ".")
		_, sum, ok := cutLast(rest, ".")
		p := db.byChecksum(Checksum(sum))
		if !ok || p == nil || !slices.Contains(scriptTypes, kind) {
			continue
		}
		body, err := io.ReadAll(io.LimitReader(tr, maxControl))
		if err != nil {
			return err
		}
		p.scripts = append(p.scripts, Script{Type: kind, Body: body})
	}
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (db *database) byChecksum(c Checksum) *installedPackage {
	for _, p := range db.packages {
		if p.Checksum == c {
			return p
		}
	}
	return nil
}

func (db *database) byName(name string) *installedPackage {
	for _, p := range db.packages {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// remove removes p from the list of packages. Its files keep their owners.
func (db *database) remove(p *installedPackage) {
	db.packages = slices.DeleteFunc(db.packages, func(q *installedPackage) bool { return q == p })
}
