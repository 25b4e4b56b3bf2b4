package mirror

import (
	"archive/tar"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

// namedDeb returns a Debian package with files and, unless soname is empty, a library.
func namedDeb(t *testing.T, name, soname string, files ...string) []byte {
	t.Helper()
	file := func(name, content string) tarEntry {
		return tarEntry{tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o755}, content}
	}
	control := []tarEntry{file("control", "Package: "+name+"\nVersion: 1.0-1\nArchitecture: amd64\n")}
	if soname != "" {
		library, version, _ := strings.Cut(soname, ".so.")
		control = append(control, file("shlibs", library+" "+version+" "+name+"\n"))
	}
	var data []tarEntry
	for _, f := range files {
		data = append(data, file(f, "of "+name))
	}
	return arFile("debian-binary", "2.0\n", "control.tar", tarFile(t, control...), "data.tar", tarFile(t, data...))
}

// TestBeside checks that only PostgreSQL and not a second libc comes from a release beside the
// first one, and that the versions of PostgreSQL can be installed side by side.
func TestBeside(t *testing.T) {
	newest, older := t.TempDir(), t.TempDir()
	for path, content := range map[string][]byte{
		newest + "/libc6.deb":         namedDeb(t, "libc6", "libc.so.6", "usr/lib/libc.new"),
		newest + "/libicu76.deb":      namedDeb(t, "libicu76", "libicudata.so.76", "usr/lib/icu76"),
		newest + "/postgresql-17.deb": namedDeb(t, "postgresql-17", "", "usr/lib/postgresql/17/bin/postgres"),
		older + "/libc6.deb":          namedDeb(t, "libc6", "libc.so.6", "usr/lib/libc.old"),
		older + "/e2fsprogs.deb":      namedDeb(t, "e2fsprogs", "", "sbin/e2fsck"),
		older + "/postgresql-15.deb":  namedDeb(t, "postgresql-15", "", "usr/lib/postgresql/15/bin/postgres"),
	} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	amd64, err := arch.Get(arch.AMD64)
	if err != nil {
		t.Fatal(err)
	}
	r := &repackager{arch: amd64, debs: map[string]*deb{}, beside: map[string]int{}, queued: map[string]bool{}, offered: map[string]string{}, needed: map[string]string{}}
	if err := r.open([]string{newest, older}); err != nil {
		t.Fatal(err)
	}
	defer r.close()
	r.enqueue("libc6") // as for a program that needs it
	if err := r.makeAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.joinServers()
	var names, files []string
	var places int
	for _, p := range r.packages {
		names = append(names, p.Name)
		for _, f := range p.Files {
			files = append(files, filepath.Base(f.Name))
		}
		if p.Name == "postgresql-common" {
			places = len(p.Files)
		}
		if strings.HasPrefix(p.Name, "postgresql1") && slices.ContainsFunc(p.Provides, func(s string) bool { return strings.Contains(s, "=") }) {
			t.Errorf("%s provides %v, which no other version can provide beside it", p.Name, p.Provides)
		}
	}
	for _, want := range []string{"postgresql15", "postgresql17", "glibc"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no %s: %v", want, names)
		}
	}
	if slices.Contains(names, "e2fsprogs") || slices.Contains(files, "libc.old") || !slices.Contains(files, "libc.new") {
		t.Errorf("packages %v with files %v", names, files)
	}
	if places != len(debianPlaces("15"))+len(debianPlaces("17")) {
		t.Errorf("postgresql-common has %d links", places)
	}
	if got := postgresMajor([]*apkbuild.Package{{Info: apkbuild.Info{Name: "postgresql15"}}, {Info: apkbuild.Info{Name: "postgresql17"}}, {Info: apkbuild.Info{Name: "postgresql9"}}}); got != "17" {
		t.Errorf("the newest server is %s", got)
	}
}
