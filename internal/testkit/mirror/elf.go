package mirror

import (
	"bytes"
	"debug/elf"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// sonamePrefix distinguishes the libraries for glibc from Alpine's, which often have the same
// soname. It corresponds to abuild's sonameprefix.
const sonamePrefix = "so:glibc:"

// A linkage lists the libraries that ELF files need and offer.
type linkage struct {
	needs  map[string]bool   // sonames, without own
	offers map[string]string // soname to the library's version, "0" if its file name has none
	own    map[string]bool   // sonames of all files, including private libraries
}

// linkageOf reads the dynamic sections of all ELF files among files.
func linkageOf(files []apkbuild.File) (linkage, error) {
	l := linkage{needs: map[string]bool{}, offers: map[string]string{}, own: map[string]bool{}}
	for i := range files {
		f := &files[i]
		if f.Type != apkbuild.Regular || !bytes.HasPrefix(f.Data, []byte(elf.ELFMAG)) {
			continue
		}
		if err := l.add(f); err != nil {
			return l, fmt.Errorf("read ELF file %s: %w", f.Name, err)
		}
	}
	maps.DeleteFunc(l.needs, func(soname string, _ bool) bool { return l.own[soname] })
	return l, nil
}

func (l *linkage) add(f *apkbuild.File) error {
	file, err := elf.NewFile(bytes.NewReader(f.Data))
	if err != nil {
		return err
	}
	needed, err := file.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, soname := range needed {
		l.needs[soname] = true
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			loader := make([]byte, min(segment.Filesz, 4096))
			if _, err := segment.ReadAt(loader, 0); err != nil {
				return err
			}
			l.needs[path.Base(string(bytes.TrimRight(loader, "\x00")))] = true
		}
	}
	names, err := file.DynString(elf.DT_SONAME)
	if err != nil {
		return err
	}
	for _, soname := range names {
		l.own[soname] = true
		if inLibraryPath(f.Name) {
			l.offers[soname] = libraryVersion(path.Base(f.Name), soname)
		}
	}
	return nil
}

// inLibraryPath reports whether the loader searches the file's folder: /lib, /usr/lib and their
// multiarch folders.
func inLibraryPath(name string) bool {
	dir := strings.TrimPrefix(path.Dir(name), "usr/")
	triplet, below := strings.CutPrefix(dir, "lib/")
	return dir == "lib" || below && strings.HasSuffix(triplet, "-linux-gnu")
}

// libraryVersion returns the version in a library's file name, such as "1.2.13" for libz.so.1.2.13
// with soname libz.so.1, or "0".
func libraryVersion(file, soname string) string {
	if _, version, found := strings.Cut(file, ".so."); found && strings.HasPrefix(file, soname) && upstreamVersion.FindString(version) == version {
		return version
	}
	return "0"
}

// dependencies returns the "so:" dependencies of a package with this linkage.
func (l linkage) dependencies() []string {
	var deps []string
	for soname := range l.needs {
		deps = append(deps, sonamePrefix+soname)
	}
	slices.Sort(deps)
	return deps
}

// provisions returns the "so:" provisions of a package with this linkage.
func (l linkage) provisions() []string {
	var provides []string
	for soname, version := range l.offers {
		provides = append(provides, sonamePrefix+soname+"="+version)
	}
	slices.Sort(provides)
	return provides
}
