package guestspec

import (
	"fmt"
	"regexp"
	"slices"
)

// MaxVolumes is the maximum number of volumes of a guest.
const MaxVolumes = 8

// A Volume is an additional disk with data of services. The guest finds it by its label, never by
// its position among the disks, and checks, mounts and enlarges it like the data disk.
type Volume struct {
	Name      string `json:"name"` // see ValidVolumeName
	Encrypted bool   `json:"encrypted,omitempty"`
	// Directory is the mount point. The root directory of the file system has its owner and mode.
	Directory
}

var volumeName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,11}$`)

// ValidVolumeName reports whether name is valid for a volume: up to 12 lower-case letters, digits
// and dashes, so that VolumeLabel fits into the 16 bytes of ext4's label.
func ValidVolumeName(name string) bool { return volumeName.MatchString(name) }

// VolumeLabel is the label of a volume's file system and LUKS2 header.
func VolumeLabel(name string) string { return "vol-" + name }

// Data describes the volume as a disk that is found only by its label.
func (v Volume) Data(wait Duration) Data {
	return Data{Label: VolumeLabel(v.Name), Path: v.Path, Wait: wait, Encrypted: v.Encrypted}
}

// Roots returns the directories in which services store data: the mount points of the data disk and
// the volumes, the data disk first.
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

// Root returns the one of roots that contains the path name, or "".
func Root(roots []string, name string) string {
	for _, root := range roots {
		if within(name, root) {
			return root
		}
	}
	return ""
}

// NewDiskOffset is the offset of the mark of a new disk, in bytes: after the header of LUKS2, which
// has 16 MiB, so that a partly written header does not overwrite the mark.
const NewDiskOffset = 16 << 20

// NewDiskMark returns the mark of a new disk that must be encrypted and get a label: the guest
// encrypts and formats only a disk with the mark.
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
