package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/mounttest"
)

// TestDebianRoot writes the root file system of a Debian as an ext4 image, from a tar file like the
// layer of a container image. e2fsck must find no error, and every entry must be as debootstrap
// created it when the kernel mounts the image.
func TestDebianRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: debootstrap makes devices and other owners")
	}
	root := t.TempDir()
	run(t, "", "debootstrap", "--variant=minbase", "bookworm", root, debianMirror(t))
	archive := filepath.Join(t.TempDir(), "root.tar")
	run(t, root, "tar", "--xattrs", "--numeric-owner", "-cf", archive, ".")

	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	all := tree.New()
	if err := all.ApplyTar(f, info.Size(), tree.TarOptions{}); err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(filepath.Join(t.TempDir(), "root.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if _, err := ext4.Write(t.Context(), image, all, ext4.Options{}); err != nil {
		t.Fatal(err)
	}
	run(t, "", "e2fsck", "-fn", image.Name())
	mounted, _ := mounttest.Loop(t, image.Name(), "ro")
	for _, list := range []string{
		`find . -mindepth 1 ! -path ./lost+found \( -type d -printf '%P d %#m %U %G %Ts\n' -o -printf '%P %y %#m %U %G %s %n %Ts %l\n' \) | sort`,
		`find . -type f -print0 | sort -z | xargs -0 sha256sum`,
		`getfattr -R -h -d -m - . 2>/dev/null | sort`,
	} {
		want, got := run(t, root, "sh", "-c", list), run(t, mounted, "sh", "-c", list)
		if want != got {
			t.Errorf("%s: %s", list, cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
		}
	}
	t.Logf("%d bytes of tar", info.Size())
}

// debianMirror returns the address from which apt on this computer fetches bookworm.
func debianMirror(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(run(t, "", "apt-get", "indextargets", "--format", "$(CODENAME) $(SITE)", "Created-By: Packages")) {
		if name, site, found := strings.Cut(strings.TrimSpace(line), " "); found && name == "bookworm" {
			return site
		}
	}
	t.Skip("apt has no source of Debian bookworm")
	return ""
}

// run runs a program in a folder and returns its standard output.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = dir
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s%s", command, err, out, stderr.String())
	}
	return string(out)
}
