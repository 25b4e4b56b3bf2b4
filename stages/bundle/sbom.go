package bundle

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/overlay"
	"github.com/sovereign-sql/sov/stages/packages"
)

// sbom writes the bill of materials as CycloneDX JSON. It has no timestamp, and its serial number
// is derived from its content.
func sbom(r *recipe.Recipe, arch string, components []cdx.Component) ([]byte, error) {
	slices.SortFunc(components, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	components = slices.CompactFunc(components, func(a, b cdx.Component) bool { return a.BOMRef == b.BOMRef })
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: "artifact", Type: cdx.ComponentTypeFirmware, Name: r.Name, Version: r.Version, Description: r.Description,
		Properties: &[]cdx.Property{{Name: "sov:arch", Value: arch}},
	}}
	bom.Components = &components
	anonymous, err := encodeBOM(bom)
	if err != nil {
		return nil, err
	}
	bom.SerialNumber = serial(anonymous)
	return encodeBOM(bom)
}

func encodeBOM(bom *cdx.BOM) ([]byte, error) {
	var b bytes.Buffer
	if err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).Encode(bom); err != nil {
		return nil, fmt.Errorf("encode %s: %w", artifact.SBOMFile, err)
	}
	return b.Bytes(), nil
}

// serial returns a UUID of version 8, whose bits are vendor-specific (RFC 9562, section 5.8).
func serial(content []byte) string {
	u := sha256.Sum256(content)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// A distribution is ID and VERSION_ID of /etc/os-release in the root file system (os-release(5)).
type distribution struct{ id, version string }

// maxOSRelease is the largest /etc/os-release, in bytes. Alpine's has about 160.
const maxOSRelease = 64 << 10

// distributionOf reads /etc/os-release. If the file does not exist, the distribution is empty.
func distributionOf(t *tree.Tree) (d distribution, err error) {
	text, err := overlay.ReadFile(t, "etc/os-release", maxOSRelease)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		if !distributionForm.MatchString(value) {
			continue
		}
		switch key {
		case "ID":
			d.id = value
		case "VERSION_ID":
			d.version = value
		}
	}
	return d, nil
}

// distributionForm is the syntax of ID and VERSION_ID (os-release(5)).
var distributionForm = regexp.MustCompile(`^[a-z0-9._-]{1,64}$`)

// component returns the component from which scanners take the distribution, and so the
// vulnerability data to use.
func (d distribution) component() []cdx.Component {
	if d.id == "" {
		return nil
	}
	return []cdx.Component{{BOMRef: "os:" + d.id, Type: cdx.ComponentTypeOS, Name: d.id, Version: d.version}}
}

// packageComponents describes the Alpine packages. Advisories name a package's origin, the source
// package that it is built from; scanners call it "upstream".
func packageComponents(list []packages.Installed, d distribution) []cdx.Component {
	out := make([]cdx.Component, 0, len(list))
	for _, p := range list {
		qualifiers := "?arch=" + p.Arch
		if d.id != "" {
			qualifiers += "&distro=" + strings.Trim(d.id+"-"+d.version, "-")
		}
		if p.Origin != "" && p.Origin != p.Name {
			qualifiers += "&upstream=" + url.QueryEscape(p.Origin)
		}
		purl := fmt.Sprintf("pkg:apk/alpine/%s@%s%s", url.QueryEscape(p.Name), url.QueryEscape(p.Version), qualifiers)
		c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version,
			Description: p.Description, PackageURL: purl}
		if p.License != "" {
			c.Licenses = &cdx.Licenses{{Expression: p.License}}
		}
		if p.URL != "" {
			c.ExternalReferences = &[]cdx.ExternalReference{{Type: cdx.ERTypeWebsite, URL: p.URL}}
		}
		out = append(out, c)
	}
	return out
}

// kernelComponent describes the kernel. It is not of type operating-system, because scanners take
// the distribution from such a component.
func kernelComponent(info kernel.Info) cdx.Component {
	version := cmp.Or(info.Version, info.Release)
	purl := "pkg:generic/linux@" + url.QueryEscape(version)
	number, _, _ := strings.Cut(version, "-") // a release has a suffix
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeApplication, Name: "linux", Version: version, PackageURL: purl,
		CPE:        "cpe:2.3:o:linux:linux_kernel:" + number + ":*:*:*:*:*:*:*",
		Properties: &[]cdx.Property{{Name: "syft:package:type", Value: "linux-kernel"}},
		Licenses:   &cdx.Licenses{{Expression: "GPL-2.0-only WITH Linux-syscall-note"}}}
	if info.SHA256 != "" {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: info.SHA256}}
	}
	if info.Source != "" {
		c.ExternalReferences = &[]cdx.ExternalReference{{Type: cdx.ERTypeDistribution, URL: info.Source}}
	}
	return c
}

// minProgram is smaller than any Go program, in bytes. Smaller files are not read.
const minProgram = 512 << 10

// goComponents describes the modules in the Go programs of a tree, from the build information in
// each program.
func goComponents(t *tree.Tree) ([]cdx.Component, error) {
	var out []cdx.Component
	seen := map[*tree.Inode]bool{}
	err := t.Walk(func(_ string, n *tree.Inode) error {
		if !n.IsRegular() || n.Content.Size < minProgram || seen[n] {
			return nil
		}
		seen[n] = true
		out = append(out, modulesOf(n.Content)...)
		return nil
	})
	return out, err
}

// modulesOf describes the modules in a Go program. It returns nil for other files.
func modulesOf(program io.ReaderAt) []cdx.Component {
	info, err := buildinfo.Read(program)
	if err != nil {
		return nil
	}
	out := []cdx.Component{module("stdlib", info.GoVersion[min(2, len(info.GoVersion)):])}
	// A main module built in its own tree has no version.
	if info.Main.Path != "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
		out = append(out, module(info.Main.Path, info.Main.Version))
	}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		out = append(out, module(d.Path, d.Version))
	}
	return out
}

func module(path, version string) cdx.Component {
	purl := "pkg:golang/" + path + "@" + url.QueryEscape(version)
	return cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl}
}
