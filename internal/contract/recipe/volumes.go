package recipe

import (
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// A Volume is an additional disk with data of services.
type Volume struct {
	Name      string `yaml:"name"`      // see guestspec.ValidVolumeName
	Size      Size   `yaml:"size"`      // initial size
	Path      string `yaml:"path"`      // where it is mounted
	Encrypted bool   `yaml:"encrypted"` // with the key of the data disk
	Mode      Mode   `yaml:"mode"`      // of its root directory; absent: 0755
	Owner     string `yaml:"owner"`     // user name; empty: root
	Group     string `yaml:"group"`     // group name; empty: the owner's
}

// Encrypts reports whether a disk of the machine is encrypted.
func (r *Recipe) Encrypts() bool {
	return r.VM.Encrypt || slices.ContainsFunc(r.Volumes, func(v Volume) bool { return v.Encrypted })
}

// volumeAt returns the volume of a path, or nil.
func (r *Recipe) volumeAt(name string) *Volume {
	for i := range r.Volumes {
		if v := r.Volumes[i].Path; cleanAbsolute(v) && below(name, v) {
			return &r.Volumes[i]
		}
	}
	return nil
}

// outlives reports whether the content of a service's directory persists across a restart: it is
// below /data or on a volume.
func (r *Recipe) outlives(dir string) bool {
	return strings.HasPrefix(dir, guestspec.DataPath+"/") || r.volumeAt(dir) != nil
}

func (r *Recipe) completeVolumes() {
	for i := range r.Volumes {
		setDefault(&r.Volumes[i].Mode, 0o755)
		setDefault(&r.Volumes[i].Owner, "root")
	}
}

// ofSystem are system directories with programs and settings.
var ofSystem = []string{"/bin", "/boot", "/etc", "/lib", "/lib64", "/sbin", "/usr"}

func (c *checker) volumes() {
	c.require(len(c.Volumes) <= guestspec.MaxVolumes, "volumes", "there are %d, and a machine has at most %d", len(c.Volumes), guestspec.MaxVolumes)
	for i, v := range c.Volumes {
		at := strictyaml.Index("volumes", i)
		c.require(guestspec.ValidVolumeName(v.Name), at+".name", "%q is not the name of a volume; use 1 to 12 lower-case letters, digits and hyphens, the first a letter or a digit", v.Name)
		c.require(v.Name != "data", at+".name", "%q is what the data disk is called", v.Name)
		c.require(v.Size%MiB == 0 && v.Size >= 256*MiB && v.Size <= TiB, at+".size", "%s is not a whole number of MiB from 256MiB to 1TiB", v.Size)
		for _, taken := range slices.Concat(mountpoints, ofSystem) {
			c.require(!below(v.Path, taken), at+".path", "%q is in %s, which is the machine's own; use a path such as /srv/%s", v.Path, taken, v.Name)
		}
		if !cleanAbsolute(v.Path) {
			c.doc.Faultf(at+".path", "%q is not a clean absolute path", v.Path)
			continue
		}
		for _, other := range c.Volumes[:i] {
			c.require(v.Name != other.Name, at+".name", "volume %q is listed twice", v.Name)
			if below(v.Path, other.Path) || below(other.Path, v.Path) {
				c.doc.Faultf(at+".path", "%q and %q of volume %s lie in each other", v.Path, other.Path, other.Name)
				break
			}
		}
	}
}
