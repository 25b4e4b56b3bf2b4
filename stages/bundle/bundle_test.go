package bundle

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/sovereign-sql/sov/assets"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/host/embedded"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/packages"
)

func sqlRecipe(t *testing.T) *recipe.Recipe {
	t.Helper()
	text, err := assets.Recipe("sql")
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Parse("sql.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSpecOfSQL(t *testing.T) {
	r := sqlRecipe(t)
	r.Kernel.Parameters = []string{"quiet"}
	r.Join("home", []string{"dns"})
	s, err := spec(r, "arm64", []string{`dm-mod.create="root,,,ro,0 8 verity"`, "root=/dev/dm-0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Encode(); err != nil {
		t.Fatal(err)
	}
	if want := `dm-mod.create="root,,,ro,0 8 verity" root=/dev/dm-0 ro rootfstype=ext4 init=/sbin/sov-init console=hvc0 page_alloc.shuffle=1 panic=-1 quiet`; s.Cmdline() != want {
		t.Errorf("command line %q, want %q", s.Cmdline(), want)
	}
	if d, ok := s.Disk(vmspec.RoleData); !ok || d.Size != 8<<30 {
		t.Errorf("data disk: %+v", d)
	}
	if n := s.Network; n.Guest.String() != "192.168.100.2/24" || n.Subnet().String() != "192.168.100.0/24" || n.Hostname != "sovereign-sql" ||
		n.Group != "home" || !slices.Equal(n.After, []string{"dns"}) {
		t.Errorf("network: %+v", n)
	}
	if len(s.Ports) != 1 || s.Ports[0] != (vmspec.Port{Service: "postgres", Port: 5432}) {
		t.Errorf("ports: %+v", s.Ports)
	}
	if parameters[len(parameters)-1] != "panic=-1" {
		t.Error("the recipe's parameters were added to the shared slice")
	}
}

// TestVolumes expects the disks of a recipe's volumes after those of every machine. Only encrypted
// volumes have a key.
func TestVolumes(t *testing.T) {
	r := sqlRecipe(t)
	r.Volumes = []recipe.Volume{{Name: "media", Size: 64 << 30, Path: "/srv/media", Encrypted: true}, {Name: "cold", Size: 1 << 30, Path: "/srv/cold"}}
	r.VM.DataKey = recipe.DataKeyOnHost
	s, err := spec(r, "arm64", []string{"root=/dev/vda"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Encode(); err != nil {
		t.Fatal(err)
	}
	want := []vmspec.Disk{{Role: vmspec.RoleVolume, Name: "media", Size: 64 << 30, Key: vmspec.KeyOnHost}, {Role: vmspec.RoleVolume, Name: "cold", Size: 1 << 30}}
	if !slices.Equal(s.Disks[3:], want) || s.Disks[1].Key != "" || s.Disks[2].Role != vmspec.RoleConfig {
		t.Errorf("disks: %+v", s.Disks)
	}
}

func TestInputsNameNoDirectory(t *testing.T) {
	s := &stage{Options{Recipe: sqlRecipe(t), Arch: "arm64", Made: lock.Entry{
		Image:    lock.Image{Reference: "oci:/home/me/images/base", Digest: "sha256:1"},
		Kernel:   &lock.Kernel{Version: "6.1.1", Source: "/home/me/linux-6.1.1.tar.xz"},
		Packages: []lock.Package{{Name: "a", Repository: "/home/me/packages"}, {Name: "b", Repository: "https://example.org/main"}},
	}}}
	for _, in := range s.inputs() {
		if strings.Contains(in.Name+in.Source, "home") {
			t.Errorf("%+v", in)
		}
	}
	for reference, want := range map[string]string{"docker.io/library/alpine:3.22": "docker.io/library/alpine:3.22", "./x/base.tar": "base.tar",
		"oci:/a/b": "oci:b"} {
		if got := imageName(reference); got != want {
			t.Errorf("%s: got %s, want %s", reference, got, want)
		}
	}
	if in := s.inputs(); in[len(in)-1].Source != "https://example.org/main" {
		t.Errorf("a URL became %q", in[len(in)-1].Source)
	}
}

func TestSBOM(t *testing.T) {
	r := sqlRecipe(t)
	alpine := distribution{"alpine", "3.22.1"}
	components := func() []cdx.Component {
		list := packageComponents([]packages.Installed{
			{Name: "libstdc++", Version: "14.2.0-r4", Arch: "aarch64", License: "GPL-2.0-or-later AND LGPL-2.1-or-later", URL: "https://gcc.gnu.org"},
			{Name: "a", Version: "1", Arch: "noarch"},
			{Name: "libcrypto3", Version: "3.3.2-r0", Arch: "aarch64", Origin: "openssl"},
		}, alpine)
		list = append(list, alpine.component()...)
		return append(list, kernelComponent(kernel.Info{Version: "6.1.192", Release: "6.1.192-sov", SHA256: strings.Repeat("0", 64), Source: "https://cdn.kernel.org/x.tar.xz"}),
			module("example.org/m", "v1.2.3+incompatible"), module("example.org/m", "v1.2.3+incompatible"))
	}
	one, err := sbom(r, "arm64", components())
	if err != nil {
		t.Fatal(err)
	}
	two, err := sbom(r, "arm64", components())
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("the same components give another document; %v", err)
	}
	other, err := sbom(r, "arm64", components()[1:])
	if err != nil {
		t.Fatal(err)
	}
	var bom, otherBOM cdx.BOM
	decode(t, one, &bom)
	decode(t, other, &otherBOM)
	if bom.SerialNumber == otherBOM.SerialNumber || !strings.HasPrefix(bom.SerialNumber, "urn:uuid:") {
		t.Errorf("serial numbers %s and %s", bom.SerialNumber, otherBOM.SerialNumber)
	}
	var purls []string
	for _, c := range *bom.Components {
		purls = append(purls, c.PackageURL)
	}
	want := []string{"", "pkg:apk/alpine/a@1?arch=noarch&distro=alpine-3.22.1", "pkg:apk/alpine/libcrypto3@3.3.2-r0?arch=aarch64&distro=alpine-3.22.1&upstream=openssl",
		"pkg:apk/alpine/libstdc%2B%2B@14.2.0-r4?arch=aarch64&distro=alpine-3.22.1",
		"pkg:generic/linux@6.1.192", "pkg:golang/example.org/m@v1.2.3%2Bincompatible"}
	if strings.Join(purls, " ") != strings.Join(want, " ") {
		t.Errorf("got  %q\nwant %q", purls, want)
	}
	if bom.Metadata.Timestamp != "" {
		t.Error("the document has a time")
	}
}

func TestDistribution(t *testing.T) {
	for text, want := range map[string]distribution{
		"NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.22.1\n": {"alpine", "3.22.1"},
		"ID='x'\nVERSION_ID=\"1\"\n":                            {"x", "1"},
		"ID=alpine\nVERSION_ID=1&arch=x\n":                      {"alpine", ""},
		"ID=\x1b]0;x\n":                                         {},
		"":                                                      {},
	} {
		root := tree.New()
		if err := errors.Join(root.Put("etc/os-release", &tree.Inode{Mode: tree.S_IFLNK | 0o777, Target: "../usr/lib/os-release"}),
			root.Put("usr/lib/os-release", &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte(text))})); err != nil {
			t.Fatal(err)
		}
		if got, err := distributionOf(root); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	if got, err := distributionOf(tree.New()); err != nil || got != (distribution{}) {
		t.Errorf("no file: %+v, %v", got, err)
	}
}

func decode(t *testing.T, text []byte, bom *cdx.BOM) {
	t.Helper()
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(bom); err != nil {
		t.Fatal(err)
	}
}

func TestGoComponents(t *testing.T) {
	program, err := embedded.Program("sov-init", "arm64")
	if err != nil {
		t.Skipf("a Go program is needed: %v", err)
	}
	root := tree.New()
	for name, content := range map[string][]byte{"sbin/sov-init": program, "bin/other": make([]byte, minProgram)} {
		if err := root.Put(name, &tree.Inode{Mode: tree.S_IFREG | 0o755, Content: tree.Bytes(content)}); err != nil {
			t.Fatal(err)
		}
	}
	components, err := goComponents(root)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, c := range components {
		found[c.Name] = c.Version
	}
	if found["stdlib"] == "" || found["github.com/jackc/pgx/v5"] == "" {
		t.Errorf("found %v", found)
	}
}
