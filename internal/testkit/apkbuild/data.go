package apkbuild

import (
	"archive/tar"
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// A File is one name in a package's data.
type File struct {
	Name     string // slash path from the root, without one at its start
	Type     Type
	Mode     int64 // permission, set-id and sticky bits: 07777 at most
	UID, GID int
	// Owner and Group are the names of UID and GID; apk prefers a name that
	// the target's /etc/passwd or /etc/group knows. Empty is "root" for id 0.
	Owner, Group string
	ModTime      time.Time         // to the second; zero is Unix time 0
	Target       string            // of a symlink; of a hard link, the Name of an earlier file
	Data         []byte            // of a regular file
	Xattrs       map[string][]byte // by full name: "security.capability"
	Major, Minor int64             // of a device
}

// A Type is what kind of file a File is.
type Type byte

// The types of files that packages hold.
const (
	Regular     Type = tar.TypeReg
	HardLink    Type = tar.TypeLink
	Symlink     Type = tar.TypeSymlink
	CharDevice  Type = tar.TypeChar
	BlockDevice Type = tar.TypeBlock
	Directory   Type = tar.TypeDir
	FIFO        Type = tar.TypeFifo
)

// checksumRecord is the PAX record that tells apk a file's checksum before
// its content: hex of the SHA-1 of a file's bytes or of a symlink's target.
const checksumRecord = "APK-TOOLS.checksum.SHA1"

// dataStream is the gzip stream of the files, with the bytes they take when
// installed. Directories come before what they hold, and hard links after
// everything else, so after what they link to.
func dataStream(files []File) (stream []byte, installed int64, err error) {
	files, err = withParents(files)
	if err != nil {
		return nil, 0, err
	}
	stream, err = gzipTar(complete, func(tw *tar.Writer) error {
		for i := range files {
			if err := files[i].write(tw); err != nil {
				return fmt.Errorf("write %s: %w", files[i].Name, err)
			}
			// A link takes room too: apk unpacks nothing of a package that says it takes none.
			installed += int64(len(files[i].Data) + len(files[i].Target))
		}
		return nil
	})
	return stream, installed, err
}

// withParents adds the directories that are not listed, refuses names that
// no package may have, and puts all in order.
func withParents(files []File) ([]File, error) {
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		if f.Name == "" || f.Name == "." || f.Name != path.Clean(f.Name) || strings.HasPrefix(f.Name, "/") || strings.HasPrefix(f.Name, "..") {
			return nil, fmt.Errorf("file name %q is not a clean path from the root", f.Name)
		}
		if seen[f.Name] {
			return nil, fmt.Errorf("%s is listed twice", f.Name)
		}
		seen[f.Name] = true
	}
	all := slices.Clone(files)
	for _, f := range files {
		for dir := path.Dir(f.Name); dir != "." && !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			all = append(all, File{Name: dir, Type: Directory, Mode: 0o755})
		}
	}
	slices.SortFunc(all, func(a, b File) int {
		if a.Type != b.Type && (a.Type == HardLink || b.Type == HardLink) {
			if a.Type == HardLink {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return all, nil
}

func (f *File) write(tw *tar.Writer) error {
	header := &tar.Header{
		Typeflag: byte(f.Type), Name: f.Name, Linkname: f.Target, Mode: f.Mode,
		Uid: f.UID, Gid: f.GID, Uname: f.Owner, Gname: f.Group,
		Size: int64(len(f.Data)), ModTime: epoch,
		Devmajor: f.Major, Devminor: f.Minor,
		Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	if f.UID == 0 && f.Owner == "" {
		header.Uname = "root"
	}
	if f.GID == 0 && f.Group == "" {
		header.Gname = "root"
	}
	if !f.ModTime.IsZero() {
		header.ModTime = f.ModTime.Truncate(time.Second)
	}
	switch f.Type {
	case Directory:
		header.Name += "/"
	case Regular:
		header.PAXRecords[checksumRecord] = sha1Hex(f.Data)
	case Symlink:
		header.PAXRecords[checksumRecord] = sha1Hex([]byte(f.Target))
	}
	for name, value := range f.Xattrs {
		header.PAXRecords["SCHILY.xattr."+name] = string(value)
	}
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	_, err := tw.Write(f.Data)
	return err
}

func sha1Hex(b []byte) string {
	sum := sha1.Sum(b)
	return hex.EncodeToString(sum[:])
}
