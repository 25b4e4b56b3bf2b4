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

// A File is an entry of a package's data.
type File struct {
	Name     string // slash-separated path from the root, without a leading slash
	Type     Type
	Mode     int64 // permission, set-id and sticky bits: 07777 at most
	UID, GID int
	// Owner and Group are the names of UID and GID. apk prefers names that exist in the target's
	// /etc/passwd or /etc/group. Empty is "root" for ID 0.
	Owner, Group string
	ModTime      time.Time         // to the second; zero is Unix time 0
	Target       string            // of a symlink; of a hard link, the Name of an earlier file
	Data         []byte            // of a regular file
	Xattrs       map[string][]byte // by full name: "security.capability"
	Major, Minor int64             // of a device
}

// A Type is the kind of a File.
type Type byte

// The types of files in packages.
const (
	Regular     Type = tar.TypeReg
	HardLink    Type = tar.TypeLink
	Symlink     Type = tar.TypeSymlink
	CharDevice  Type = tar.TypeChar
	BlockDevice Type = tar.TypeBlock
	Directory   Type = tar.TypeDir
	FIFO        Type = tar.TypeFifo
)

// checksumRecord is the PAX record with a file's checksum, which apk reads before the content: the
// SHA-1, in hex, of a file's bytes or of a symlink's target.
const checksumRecord = "APK-TOOLS.checksum.SHA1"

// dataStream returns the gzip stream of the files and their installed size in bytes. Directories
// come before their contents, and hard links after all other files.
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
			// Links count too: apk does not unpack a package with an installed size of 0.
			installed += int64(len(files[i].Data) + len(files[i].Target))
		}
		return nil
	})
	return stream, installed, err
}

// withParents adds missing parent directories, rejects invalid names, and sorts the files.
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
