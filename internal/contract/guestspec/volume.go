package guestspec

import (
	"fmt"
	"regexp"
	"slices"
)

// MaxVolumes is how many Volumes a guest has at most.
const MaxVolumes = 8

// A Volume is a disk besides the data disk on which services keep data. The guest finds it by its
// label, never by its place among the disks, and checks, mounts and enlarges it as it does the data
// disk.
type Volume struct {
	Name      string `json:"name"` // see ValidVolumeName
	Encrypted bool   `json:"encrypted,omitempty"`
	// Directory is the mount point. The root directory of the file system has its owner and mode.
	Directory
}

var volumeName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,11}$`)

// ValidVolumeName reports whether name can be a volume's: up to 12 lower-case letters, digits and
// dashes, so that VolumeLabel fits into the 16 bytes of ext4's label.
func ValidVolumeName(name string) bool { return volumeName.MatchString(name) }

// VolumeLabel is the label of a volume's file system and LUKS2 header.
func VolumeLabel(name string) string { return "vol-" + name }

// Data describes the volume as a disk that is found by its label alone.
func (v Volume) Data(wait Duration) Data {
	return Data{Label: VolumeLabel(v.Name), Path: v.Path, Wait: wait, Encrypted: v.Encrypted}
}

// Roots are the directories in which services keep data: where the data disk and the volumes are
// mounted, the data disk first.
func (c Config) Roots() []string {
	roots := []string{c.Data.Path}
	for _, v := range c.Volumes {
		roots = append(roots, v.Path)
	}
	return roots
}

// Encrypts reports whether a disk of the guest is encrypted.
func (c Config) Encrypts() bool {
	return c.Data.Encrypted || slices.ContainsFunc(c.Volumes, func(v Volume) bool { return v.Encrypted })
}

// Root returns that of roots which the path name is or lies in, or "".
func Root(roots []string, name string) string {
	for _, root := range roots {
		if within(name, root) {
			return root
		}
	}
	return ""
}

// NewDiskOffset is where the mark of a new disk stands, in bytes: behind the header of LUKS2, which
// takes 16 MiB, so that the mark outlives a header of which only a part is written.
const NewDiskOffset = 16 << 20

// NewDiskMark returns the mark of a disk that is to be encrypted and get a label, and was just
// made: the guest encrypts and formats only a disk that carries it.
func NewDiskMark(label string) string {
	if label == DataLabel {
		return "sov: a new data disk, to be encrypted at its first start\n"
	}
	return "sov: the new disk " + label + ", to be encrypted at its first start\n"
}

func (p *problems) volumes(c Config) {
	p.check(len(c.Volumes) <= MaxVolumes, "volumes", "there are %d, and a guest has at most %d", len(c.Volumes), MaxVolumes)
	for i, v := range c.Volumes {
		at := fmt.Sprintf("volumes[%d]", i)
		p.check(ValidVolumeName(v.Name), at+".name", "%q is not up to 12 lower-case letters, digits and dashes", v.Name)
		p.absolute(at+".path", v.Path)
		p.check(octalMode.MatchString(v.Mode), at+".mode", "%q is not four octal digits", v.Mode)
		for _, root := range c.Roots()[:i+1] {
			p.check(!within(v.Path, root) && !within(root, v.Path), at+".path", "%q and %q lie in each other", v.Path, root)
		}
		for _, other := range c.Volumes[:i] {
			p.check(v.Name != other.Name, at+".name", "%q is described twice", v.Name)
		}
	}
}
