package apk

import (
	"archive/tar"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// PAX records in a data tar.
const (
	paxChecksum = "APK-TOOLS.checksum.SHA1" // of a file's content or a symbolic link's target, in hexadecimal
	paxXattr    = "SCHILY.xattr."           // followed by the attribute's name
)

// A dataEntry is an entry of a package's data tar.
type dataEntry struct {
	path     string // cleaned
	link     string // target of a hard link, cleaned
	isDir    bool
	mode     uint32 // permission bits
	uid, gid uint32
	checksum Checksum
	xattrs   Checksum
}

// readEntries reads the headers of a data tar. It refuses entries that no valid package has: names
// that leave the root or are ambiguous, files without their directory, links to files outside the
// package.
func readEntries(r io.ReaderAt, size int64, ids *idNames) ([]dataEntry, error) {
	var list []dataEntry
	kinds := map[string]byte{"": tar.TypeDir} // the type of the entry at each path so far
	tr := tar.NewReader(io.NewSectionReader(r, 0, size))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		e, err := newEntry(h, ids)
		if err == nil {
			err = e.check(h.Typeflag, kinds)
		}
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", h.Name, err)
		}
		kinds[e.path] = h.Typeflag
		if e.path != "" {
			list = append(list, e)
		}
	}
}

func newEntry(h *tar.Header, ids *idNames) (dataEntry, error) {
	e := dataEntry{
		isDir: h.Typeflag == tar.TypeDir,
		mode:  uint32(h.Mode & 0o7777),
		uid:   ids.uid(h.Uname, h.Uid),
		gid:   ids.gid(h.Gname, h.Gid),
	}
	var err error
	if e.path, err = cleanEntryName(h.Name); err != nil {
		return e, err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeLink:
		if e.link, err = cleanEntryName(h.Linkname); err != nil {
			return e, fmt.Errorf("hard link: %w", err)
		}
	default:
		return e, fmt.Errorf("has unknown type %q", h.Typeflag)
	}
	if sum, ok := h.PAXRecords[paxChecksum]; ok {
		if e.checksum, err = fileChecksum(sum); err != nil {
			return e, err
		}
	}
	e.xattrs = xattrChecksum(h.PAXRecords)
	return e, nil
}

// cleanEntryName checks and cleans the name of an entry; the root is "".
func cleanEntryName(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("has no name")
	case strings.HasPrefix(name, "/"):
		return "", errors.New("is an absolute path")
	case strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "", errors.New("has a control character in its name")
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", errors.New("leads out of its directory")
	}
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if strings.HasPrefix(path.Base(clean), ".wh.") {
		return "", errors.New("is a whiteout of a container layer, which has no place in a package")
	}
	return clean, nil
}

// check compares e with the entries before it.
func (e *dataEntry) check(kind byte, kinds map[string]byte) error {
	old, twice := kinds[e.path]
	if twice && (old != tar.TypeDir || kind != tar.TypeDir) {
		return errors.New("comes twice")
	}
	if parent, ok := kinds[parentOf(e.path)]; !ok {
		return errors.New("comes without its directory")
	} else if parent != tar.TypeDir {
		return errors.New("is below a file that is not a directory")
	}
	if target, ok := kinds[e.link]; kind == tar.TypeLink && (!ok || target != tar.TypeReg && target != tar.TypeLink) {
		return fmt.Errorf("is a hard link to %q, which is not a file before it in the package", e.link)
	}
	return nil
}

// parentOf returns the directory of p, "" for a name in the root and for the root itself.
func parentOf(p string) string { return strings.TrimSuffix(path.Dir("/" + p)[1:], "/") }

// xattrChecksum returns apk's sum over extended attributes: the SHA-1 of all names and values,
// sorted by name, each with its length before it as 32 bits, big endian.
func xattrChecksum(records map[string]string) Checksum {
	h := sha1.New()
	field := func(s string) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		io.WriteString(h, s)
	}
	found := false
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			found = true
			field(name)
			field(records[key])
		}
	}
	if !found {
		return ""
	}
	return SHA1Checksum([sha1.Size]byte(h.Sum(nil)))
}

// idNames resolves the owner names of a tar as apk does: by the accounts of the target system, else
// by the number in the tar.
type idNames struct{ users, groups idTable }

// An idTable has the ids of users or of groups.
type idTable struct {
	kind    string // "user" or "group"
	ids     map[string]uint32
	unknown map[string]uint32 // names that were not found, with the ids used instead
}

func readIDNames(t *tree.Tree) (*idNames, error) {
	users, err := readIDs(t, "etc/passwd")
	if err != nil {
		return nil, err
	}
	groups, err := readIDs(t, "etc/group")
	return &idNames{idTable{"user", users, map[string]uint32{}}, idTable{"group", groups, map[string]uint32{}}}, err
}

// readIDs reads the names and numbers, fields 1 and 3, of a file like /etc/passwd.
func readIDs(t *tree.Tree, p string) (map[string]uint32, error) {
	text, err := readFile(t, p)
	if err != nil {
		return nil, err
	}
	ids := map[string]uint32{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 3 {
			continue
		}
		if id, err := parseSize(fields[2]); err == nil && id <= 1<<32-1 {
			if _, known := ids[fields[0]]; !known {
				ids[fields[0]] = uint32(id)
			}
		}
	}
	return ids, nil
}

// add adds accounts with new names.
func (n *idNames) add(users, groups map[string]uint32) {
	n.users.add(users)
	n.groups.add(groups)
}

func (t *idTable) add(more map[string]uint32) {
	for name, id := range more {
		if _, known := t.ids[name]; !known {
			t.ids[name] = id
		}
	}
}

func (n *idNames) uid(name string, id int) uint32 { return n.users.lookup(name, id) }
func (n *idNames) gid(name string, id int) uint32 { return n.groups.lookup(name, id) }

func (t *idTable) lookup(name string, id int) uint32 {
	if known, ok := t.ids[name]; ok && name != "" {
		return known
	}
	if name != "" && (name != "root" || id != 0) {
		t.unknown[name] = uint32(id)
	}
	return uint32(id)
}

// takeUnknown returns warnings about the owners that were not found since the last call.
func (n *idNames) takeUnknown() (sentences []string) {
	for _, t := range []*idTable{&n.users, &n.groups} {
		for _, name := range slices.Sorted(maps.Keys(t.unknown)) {
			id := t.unknown[name]
			sentence := fmt.Sprintf("files of %[1]s %[2]s get id %[3]d, since the machine has no %[1]s of that name", t.kind, name, id)
			if stranger := t.owner(id); stranger != "" {
				sentence += ", and that id belongs to " + stranger
			}
			sentences = append(sentences, sentence)
		}
		clear(t.unknown)
	}
	return sentences
}

// owner returns the first name, in alphabetical order, that has an id.
func (t *idTable) owner(id uint32) string {
	for _, name := range slices.Sorted(maps.Keys(t.ids)) {
		if t.ids[name] == id {
			return name
		}
	}
	return ""
}
