//go:build linux

package ext4

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

const (
	// debugfsWhole is the number of entries up to which debugfs reads all of a tree. Of larger
	// trees it reads every debugfsEvery-th, and the first of each type.
	debugfsWhole = 3000
	debugfsEvery = 400
	// debugfsLargest is the size up to which debugfs reads a file's bytes: it writes holes as
	// zeros.
	debugfsLargest = 64 << 20
)

// compareByDebugfs compares inodes, bytes and attributes, as debugfs reads them, with a tree.
func compareByDebugfs(t *testing.T, image string, want *tree.Tree) {
	needTools(t, "debugfs")
	dir := t.TempDir()
	var script strings.Builder
	sample := debugfsSample(want)
	for i, e := range sample {
		e.ask(&script, filepath.Join(dir, strconv.Itoa(i)))
	}
	commands := filepath.Join(dir, "commands")
	if err := os.WriteFile(commands, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	// Each part is a stat and begins with the command, because debugfs -f repeats each command.
	parts := strings.Split(command(t, "debugfs", "-f", commands, image), "debugfs: stat ")[1:]
	if len(parts) != len(sample) {
		t.Fatalf("debugfs answered for %d of %d entries", len(parts), len(sample))
	}
	wrong := 0
	for i, e := range sample {
		for _, fault := range e.faults(parts[i], filepath.Join(dir, strconv.Itoa(i))) {
			if wrong++; wrong <= 20 {
				t.Errorf("debugfs: %q: %s", e.path, fault)
			}
		}
	}
}

// A debugfsEntry is an entry that debugfs reads.
type debugfsEntry struct {
	path string
	node *tree.Inode
}

// debugfsSample lists the entries that debugfs reads, without those whose names its commands cannot
// contain.
func debugfsSample(want *tree.Tree) []debugfsEntry {
	var all, some []debugfsEntry
	seen := make(map[uint32]bool)
	count := 0
	_ = want.Walk(func(p string, n *tree.Inode) error {
		count++
		if strings.ContainsAny(p, "\"\\\n") || !utf8.ValidString(p) {
			return nil
		}
		e := debugfsEntry{p, n}
		if all = append(all, e); !seen[n.Type()] || count%debugfsEvery == 0 {
			seen[n.Type()] = true
			some = append(some, e)
		}
		return nil
	})
	if len(all) <= debugfsWhole {
		return all
	}
	return some
}

// hasDump reports whether debugfs can dump the entry's bytes.
func (e debugfsEntry) hasDump() bool {
	return e.node.IsRegular() && e.node.Content.Size < debugfsLargest || e.node.IsSymlink() && len(e.node.Target) > fastSymlinkMax
}

// ask writes the commands that read an entry. Bytes are written to files whose names begin with
// dump.
func (e debugfsEntry) ask(script io.Writer, dump string) {
	fmt.Fprintf(script, "stat \"/%s\"\n", e.path)
	if e.hasDump() {
		fmt.Fprintf(script, "dump \"/%s\" %s\n", e.path, dump)
	}
	for i, name := range slices.Sorted(maps.Keys(e.node.Xattrs)) {
		fmt.Fprintf(script, "ea_get -f %s.%d \"/%s\" %s\n", dump, i, e.path, name)
	}
}

var (
	// debugfsStat matches the beginning of a stat's output. Each time has two fields.
	debugfsStat = regexp.MustCompile(`(?s)Inode: \d+ +Type: (\w+)(?: special)? +Mode: +(\d+) .*?User: +(-?\d+) +Group: +(-?\d+) .*? Size: (\d+)\n` +
		`.*?\nLinks: (\d+) .*?\n ctime: 0x(\w+):(\w+) .*?\n atime: 0x(\w+):(\w+) .*?\n mtime: 0x(\w+):(\w+) `)
	debugfsDevice = regexp.MustCompile(`Device major/minor number: 0*(\d+):0*(\d+) `)
	debugfsTarget = regexp.MustCompile(`\nFast link dest: "(.*)"\n`)
)

// faults lists the differences between debugfs's output and an entry.
func (e debugfsEntry) faults(said, dump string) (faults []string) {
	got := debugfsStat.FindStringSubmatch(said)
	if got == nil {
		return []string{"says " + said}
	}
	differ := func(what string, got, want any) {
		if got != want {
			faults = append(faults, fmt.Sprintf("%s is %v, want %v", what, got, want))
		}
	}
	n := e.node
	types := map[uint32]string{tree.S_IFREG: "regular", tree.S_IFDIR: "directory", tree.S_IFLNK: "symlink",
		tree.S_IFCHR: "character", tree.S_IFBLK: "block", tree.S_IFIFO: "FIFO", tree.S_IFSOCK: "socket"}
	differ("type", got[1], types[n.Type()])
	differ("mode", got[2], fmt.Sprintf("0%03o", n.Mode&0o7777))
	// debugfs prints owners as signed numbers.
	differ("owner", got[3]+":"+got[4], fmt.Sprintf("%d:%d", int32(n.UID), int32(n.GID)))
	if !n.IsDir() {
		differ("link count", got[6], strconv.Itoa(n.Nlink()))
	}
	for i, what := range []string{"ctime", "atime", "mtime"} {
		differ(what, debugfsTime(got[7+2*i], got[8+2*i]), n.ModTime.UTC())
	}
	switch {
	case n.IsRegular():
		differ("size", got[5], strconv.FormatInt(n.Content.Size, 10))
	case n.IsDevice():
		device := debugfsDevice.FindStringSubmatch(said)
		differ("device", strings.Join(device[min(1, len(device)):], ":"), fmt.Sprintf("%d:%d", n.Major, n.Minor))
	case n.IsSymlink() && !e.hasDump():
		target := debugfsTarget.FindStringSubmatch(said)
		differ("target", strings.Join(target[min(1, len(target)):], ""), n.Target)
	}
	return append(faults, e.wrongBytes(dump)...)
}

// wrongBytes compares the files that debugfs has written.
func (e debugfsEntry) wrongBytes(dump string) (faults []string) {
	same := func(what, path string, want io.Reader) {
		got, err := os.ReadFile(path)
		if content, _ := io.ReadAll(want); err != nil || !bytes.Equal(got, content) {
			faults = append(faults, fmt.Sprintf("%s differ, %v", what, err))
		}
	}
	switch {
	case e.hasDump() && e.node.IsSymlink():
		same("bytes of the target", dump, strings.NewReader(e.node.Target))
	case e.hasDump():
		same("bytes", dump, e.node.Content.Open())
	}
	for i, name := range slices.Sorted(maps.Keys(e.node.Xattrs)) {
		value := e.node.Xattrs[name]
		if strings.HasPrefix(name, "system.posix_acl_") {
			value = debugfsACL(value)
		}
		same("bytes of "+name, fmt.Sprintf("%s.%d", dump, i), bytes.NewReader(value))
	}
	return faults
}

// debugfsACL returns an ACL as e2fsprogs writes it: an entry without a user or group has the ID 0,
// where the kernel has -1.
func debugfsACL(acl []byte) []byte {
	const headerSize, entrySize, tagUser, tagGroup = 4, 8, 0x02, 0x08
	acl = bytes.Clone(acl)
	for entry := range slices.Chunk(acl[headerSize:], entrySize) {
		if entry[0] != tagUser && entry[0] != tagGroup {
			clear(entry[4:])
		}
	}
	return acl
}

// debugfsTime returns the time of two hexadecimal fields, as described under Inode Timestamps in
// Linux's Documentation/filesystems/ext4.
func debugfsTime(low, extra string) time.Time {
	seconds, _ := strconv.ParseUint(low, 16, 32)
	more, _ := strconv.ParseUint(extra, 16, 32)
	return time.Unix(int64(int32(seconds))+int64(more&3)<<32, int64(more>>2)).UTC()
}
