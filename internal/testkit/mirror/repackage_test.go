package mirror

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

func TestApkVersion(t *testing.T) {
	cases := []struct{ debian, want string }{
		{"15.20-0+deb12u1", "15.20-r1"},
		{"1:2.38.1-5+deb12u3", "2.38.1-r503"},
		{"2026f-0+deb12u1", "2026f-r1"},
		{"20250419~deb12u2", "20250419-r2"},
		{"3.0.22-1~deb12u2", "3.0.22-r102"},
		{"1.2.13.dfsg-1", "1.2.13-r100"},
		{"3.1-20221030-2", "3.1-r200"},
		{"1:1.35.0-4+deb12u1+b1", "1.35.0-r402"},
	}
	for _, c := range cases {
		if got, err := apkVersion(c.debian); got != c.want || err != nil {
			t.Errorf("apkVersion(%q) = %q, %v; want %q", c.debian, got, err, c.want)
		}
	}
	if got, err := apkVersion("git-2024"); err == nil {
		t.Errorf("apkVersion(\"git-2024\") = %q, want an error", got)
	}
}

func TestPlanDividesPostgres(t *testing.T) {
	cases := []struct{ file, want string }{
		{"usr/lib/postgresql/15/bin/postgres", "postgresql15"},
		{"usr/lib/postgresql/15/bin/vacuumlo", "postgresql15-contrib"},
		{"usr/lib/postgresql/15/lib/plpgsql.so", "postgresql15"},
		{"usr/lib/postgresql/15/lib/utf8_and_big5.so", "postgresql15"},
		{"usr/lib/postgresql/15/lib/pg_trgm.so", "postgresql15-contrib"},
		{"usr/share/postgresql/15/extension/plpgsql.control", "postgresql15"},
		{"usr/share/postgresql/15/extension/pg_trgm.control", "postgresql15-contrib"},
		{"usr/share/postgresql/15/tsearch_data/english.stop", "postgresql15"},
		{"usr/share/postgresql/15/tsearch_data/unaccent.rules", "postgresql15-contrib"},
	}
	for _, c := range cases {
		got := ""
		for _, part := range plan("postgresql-15", false) {
			if part.takes == nil || part.takes(c.file) {
				got = part.name
				break
			}
		}
		if got != c.want {
			t.Errorf("%s goes to %q, want %q", c.file, got, c.want)
		}
	}
}

func TestLeaveOut(t *testing.T) {
	for name, want := range map[string]bool{
		"usr/share/doc":                              true,
		"usr/share/doc/libc6/copyright":              true,
		"usr/share/postgresql/15/man/man1/psql.1.gz": true,
		"usr/lib/postgresql/15/lib/llvmjit.so":       true,
		"usr/lib/postgresql/15/lib/bitcode/x/y.bc":   true,
		"usr/share/postgresql/15/postgres.bki":       false,
		"lib/aarch64-linux-gnu/libc.so.6":            false,
	} {
		if got := leaveOut(name); got != want {
			t.Errorf("leaveOut(%q) = %v", name, got)
		}
	}
}

func TestBundleCertificates(t *testing.T) {
	regular := func(name, content string) apkbuild.File {
		return apkbuild.File{Name: name, Type: apkbuild.Regular, Data: []byte(content)}
	}
	files := bundleCertificates([]apkbuild.File{
		regular("usr/share/ca-certificates/mozilla/b.crt", "B\n"),
		regular("usr/share/ca-certificates/mozilla/a.crt", "A without an end"),
		regular("usr/share/ca-certificates/README", "no certificate\n"),
	})
	if got, want := string(files[0].Data), "A without an end\nB\n"; got != want {
		t.Errorf("bundle %q, want %q", got, want)
	}
}

func TestApplets(t *testing.T) {
	binary := "machine code\x00[\x00\xff" + "\x00[\x00[[\x00ash\x00busybox\x00mkfs.ext2\x00sh\x00\x00Not an applet"
	for _, binary := range []string{binary, strings.Replace(binary, "\x00[\x00[[", " [\x00[[", 1)} { // as in bookworm and in trixie
		if diff := cmp.Diff([]string{"[", "[[", "ash", "mkfs.ext2", "sh"}, applets([]byte(binary))); diff != "" {
			t.Errorf("applets (-want +got):\n%s", diff)
		}
	}
}

// TestMoveTo checks that programs, modules and data have Alpine's paths, with links at the paths
// that Debian's programs use, and that the programs that Alpine's trigger links are provided as
// commands.
func TestMoveTo(t *testing.T) {
	files := moveTo("15")([]apkbuild.File{
		{Name: "usr/lib/postgresql/15/bin/psql", Type: apkbuild.Regular, Mode: 0o755},
		{Name: "usr/lib/postgresql/15/lib/plpgsql.so", Type: apkbuild.Regular},
		{Name: "usr/share/postgresql/15/postgres.bki", Type: apkbuild.Regular},
	})
	var names []string
	for _, f := range slices.Concat(files, debianPlaces("15"), chosenVersion("15", files)) {
		names = append(names, strings.TrimSuffix(f.Name+" -> "+f.Target, " -> "))
	}
	want := []string{
		"usr/libexec/postgresql15/psql", "usr/lib/postgresql15/plpgsql.so", "usr/share/postgresql15/postgres.bki",
		"usr/lib/postgresql/15/bin -> ../../../libexec/postgresql15", "usr/lib/postgresql/15/lib -> ../../postgresql15",
		"usr/share/postgresql/15 -> ../postgresql15",
		"usr/libexec/postgresql -> postgresql15", "usr/bin/psql -> /usr/libexec/postgresql/psql",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := commands(files, "15-r0"); !slices.Equal(got, []string{"cmd:psql=15-r0"}) {
		t.Errorf("offers %v", got)
	}
}

// TestMergedUsr checks the paths outside /usr that Alpine's users expect. Debian has all programs
// in /usr since trixie.
func TestMergedUsr(t *testing.T) {
	names := func(files []apkbuild.File) (list []string) {
		for _, f := range files {
			list = append(list, f.Name)
		}
		return list
	}
	move := outOfUsr("usr/sbin/e2fsck")
	if got := names(move([]apkbuild.File{{Name: "usr/sbin/e2fsck"}, {Name: "usr/bin/lsattr"}})); !slices.Equal(got, []string{"sbin/e2fsck", "usr/bin/lsattr"}) {
		t.Errorf("merged: %v", got)
	}
	if got := names(move([]apkbuild.File{{Name: "sbin/e2fsck"}, {Name: "usr/sbin/filefrag"}})); !slices.Equal(got, []string{"sbin/e2fsck", "usr/sbin/filefrag"}) {
		t.Errorf("not merged: %v", got)
	}
	got := loaders([]apkbuild.File{symlink("usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")})
	if len(got) != 2 || got[1].Name != "lib64/ld-linux-x86-64.so.2" || got[1].Target != "../usr/lib64/ld-linux-x86-64.so.2" {
		t.Errorf("loaders: %+v", got)
	}
}

func TestAddedPackagesKeepTheirNames(t *testing.T) {
	if name := plan("redis-tools", true)[0].name; name != "redis-tools" {
		t.Errorf("redis-tools becomes %s", name)
	}
	if name := plan("libc-ares2", false)[0].name; name != "glibc-libc-ares2" {
		t.Errorf("libc-ares2 becomes %s", name)
	}
	if kept := zoneinfo([]apkbuild.File{symlink("usr/share/zoneinfo/localtime", "/etc/localtime"), {Name: "usr/share/zoneinfo/UTC"}}); len(kept) != 1 {
		t.Errorf("kept %v", kept)
	}
}

// TestExtensionPackages checks that an extension has Alpine's name and paths.
func TestExtensionPackages(t *testing.T) {
	p := plan("postgresql-17-pgvector", true)[0]
	files := p.adapt([]apkbuild.File{{Name: "usr/lib/postgresql/17/lib/vector.so"}, {Name: "usr/share/postgresql/17/extension/vector.control"}})
	if p.name != "postgresql-pgvector" || !slices.Equal(p.depends, []string{"postgresql17"}) ||
		files[0].Name != "usr/lib/postgresql17/vector.so" || files[1].Name != "usr/share/postgresql17/extension/vector.control" {
		t.Errorf("%s, which depends on %v, has %v", p.name, p.depends, files)
	}
}

func TestLibraryVersion(t *testing.T) {
	for _, c := range []struct{ file, soname, want string }{
		{"libz.so.1.2.13", "libz.so.1", "1.2.13"},
		{"libc.so.6", "libc.so.6", "6"},
		{"libsystemd.so.0.35.0", "libsystemd.so.0", "0.35.0"},
		{"libBrokenLocale-2.36.so", "libBrokenLocale.so.1", "0"},
	} {
		if got := libraryVersion(c.file, c.soname); got != c.want {
			t.Errorf("libraryVersion(%q, %q) = %q, want %q", c.file, c.soname, got, c.want)
		}
	}
}

func TestBusyboxOffersItselfAndTheShell(t *testing.T) {
	files := []apkbuild.File{
		{Name: "bin/busybox", Type: apkbuild.Regular, Mode: 0o755},
		symlink("bin/sh", "busybox"), symlink("bin/mke2fs", "busybox"), symlink("usr/bin/env", "../../bin/busybox"),
		symlink("usr/bin/psql", "../lib/postgresql/15/bin/psql"),
	}
	got := commands(files, "1-r0")
	if want := []string{"cmd:busybox=1-r0", "cmd:psql=1-r0", "cmd:sh=1-r0"}; !slices.Equal(got, want) {
		t.Errorf("offers %v, want %v", got, want)
	}
}
