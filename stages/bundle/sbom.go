package bundle

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"io"
	"net/url"
	"slices"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/kernel"
	"github.com/sovereign-sql/sov/stages/packages"
)

// sbom writes the bill of materials as CycloneDX JSON. It has no time, and its
// serial number follows from its content.
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

// serial is a UUID of version 8, whose bits are the vendor's choice (RFC 9562,
// section 5.8).
func serial(content []byte) string {
	u := sha256.Sum256(content)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// packageComponents describe the Alpine packages.
func packageComponents(list []packages.Installed) []cdx.Component {
	out := make([]cdx.Component, 0, len(list))
	for _, p := range list {
		purl := fmt.Sprintf("pkg:apk/alpine/%s@%s?arch=%s", url.QueryEscape(p.Name), url.QueryEscape(p.Version), p.Arch)
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

// kernelComponent describes the kernel.
func kernelComponent(info kernel.Info) cdx.Component {
	version := cmp.Or(info.Version, info.Release)
	purl := "pkg:generic/linux@" + url.QueryEscape(version)
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeOS, Name: "linux", Version: version, PackageURL: purl,
		Licenses: &cdx.Licenses{{Expression: "GPL-2.0-only WITH Linux-syscall-note"}}}
	if info.SHA256 != "" {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: info.SHA256}}
	}
	if info.Source != "" {
		c.ExternalReferences = &[]cdx.ExternalReference{{Type: cdx.ERTypeDistribution, URL: info.Source}}
	}
	return c
}

// minProgram is below what any Go program has; smaller files are not looked at.
const minProgram = 512 << 10

// goComponents describe the modules in the Go programs of a tree, by what the
// linker put into them.
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

// modulesOf describes the modules in a Go program, and nothing where it is none.
func modulesOf(program io.ReaderAt) []cdx.Component {
	info, err := buildinfo.Read(program)
	if err != nil {
		return nil
	}
	out := []cdx.Component{module("std", info.GoVersion[min(2, len(info.GoVersion)):])}
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
