package stages_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/verify"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
	"github.com/sovereign-sql/sov/internal/testkit/tinybuild"
	"github.com/sovereign-sql/sov/kernel"
	"github.com/sovereign-sql/sov/stages"
)

// TestDisk builds a disk image and checks its partitions.
func TestDisk(t *testing.T) {
	w := tinybuild.New(t)
	o := w.Options(t.TempDir(), w.Recipe("vm: {data: 256MiB}\n"))
	o.Formats = []string{"disk"}
	result := w.Build(o)
	path := filepath.Join(result.Dir, artifact.DiskFile)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(f, 512, 512)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]byte{}
	for _, p := range table.Partitions {
		b := make([]byte, p.Size)
		if _, err := f.ReadAt(b, int64(p.Start)*512); err != nil {
			t.Fatal(err)
		}
		parts[p.Name] = b
		if p.Name == "sov-boot" && !strings.EqualFold(p.GUID, kernel.BootPartition) {
			t.Errorf("the boot partition is %s, and the kernel looks for %s", p.GUID, kernel.BootPartition)
		}
		if p.Name == "sov-root" {
			mapping := bootFile(t, parts["sov-boot"], guestspec.RootMappingPath)
			m, err := manifest.Load(result.Dir)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.ToUpper(mapping), " PARTUUID="+p.GUID+" ") || !strings.Contains(mapping, m.Verity.RootHash) || !strings.HasSuffix(mapping, "panic_on_corruption\n") {
				t.Errorf("sov-init maps %q, the partition is %s, its root hash %s", mapping, p.GUID, m.Verity.RootHash)
			}
		}
	}
	rootfs, err := os.ReadFile(filepath.Join(result.Dir, artifact.RootfsFile))
	if err != nil || !bytes.Equal(parts["sov-root"], rootfs) {
		t.Errorf("the root partition is not rootfs.img: %v", err)
	}
	image, err := ext4.Open(bytes.NewReader(rootfs), int64(len(rootfs)))
	if err != nil {
		t.Fatal(err)
	}
	if program, err := image.ReadFile("sbin/sov-init"); err != nil || bootFile(t, parts["sov-boot"], guestspec.InitPath) != string(program) {
		t.Errorf("the boot partition has another sov-init: %v", err)
	}
	if len(parts["sov-data"]) != 256<<20 {
		t.Errorf("the data partition has %d bytes", len(parts["sov-data"]))
	}

	finds := func() (uncovered bool, problems []string) {
		t.Helper()
		report, err := verify.Artifact(t.Context(), result.Dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range report.Problems {
			if p.Check == artifact.DiskFile {
				problems = append(problems, p.String())
			}
		}
		return slices.Contains(report.Uncovered, artifact.DiskFile), problems
	}
	if uncovered, problems := finds(); uncovered || len(problems) > 0 {
		t.Errorf("sov verify of a disk image as it was built: not covered %t, %q", uncovered, problems)
	}
	at := int64(table.Partitions[1].Start)*512 + 100<<10
	artifacttest.Flip(t, path, at)
	if _, problems := finds(); len(problems) != 1 || !strings.Contains(problems[0], fmt.Sprintf("first at byte %d", at)) {
		t.Errorf("sov verify of a boot partition with another bit at %d: %q", at, problems)
	}
}

// bootFile reads a file of the boot partition.
func bootFile(t *testing.T, partition []byte, name string) string {
	t.Helper()
	fs, err := ext4.Open(bytes.NewReader(partition), int64(len(partition)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.ReadFile(strings.TrimPrefix(name, "/"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDiskRefuses builds machines for which a disk image is not possible.
func TestDiskRefuses(t *testing.T) {
	w := tinybuild.New(t)
	for _, name := range []string{"cryptsetup", "e2fsprogs"} {
		w.AddPackage(&apkbuild.Package{Info: apkbuild.Info{Name: name, Version: "1-r0"}})
	}
	for more, want := range map[string]string{
		"kernel: {parameters: [quiet]}\n":                          "kernel.parameters: UEFI starts the kernel of a disk image with the command line that is compiled into it: remove quiet",
		"volumes: [{name: media, path: /srv/media, size: 1GiB}]\n": "volumes: a disk image has one partition for data: remove the volume media",
		"vm: {encrypt: true}\n":                                    "vm.encrypt: a disk image has no place for the key",
	} {
		o := w.Options(t.TempDir(), w.Recipe(more))
		o.Formats = []string{"disk"}
		if _, err := stages.Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", more, err, want)
		}
	}
}
