package recipe

import (
	"path"
	"regexp"
	"strings"

	"golang.org/x/mod/module"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// A GoProgram is compiled from a Go module and put into the root file system. Module and Version
// are given, or Source.
type GoProgram struct {
	Output  string   `yaml:"output"`  // path of the program
	Module  string   `yaml:"module"`  // module path
	Version string   `yaml:"version"` // of Module, "v1.2.3"
	Source  string   `yaml:"source"`  // a folder with a module, relative to the recipe's
	Package string   `yaml:"package"` // in the module, "cmd/server"; empty: that of its root
	Tags    []string `yaml:"tags"`    // build constraints
}

// From says where the module is: "example.org/app@v1.2.3", or the folder as the recipe has it.
func (p GoProgram) From() string {
	if p.Module != "" {
		return p.Module + "@" + p.Version
	}
	return p.Source
}

var goTagForm = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)

func (c *checker) goPrograms() {
	seen := map[string]bool{}
	for _, f := range c.Files {
		seen[f.Path] = true
	}
	for i, p := range c.Go {
		at := strictyaml.Index("go", i)
		c.placed(at+".output", p.Output, seen, "listed twice, here or in files")
		switch {
		case (p.Module != "") == (p.Source != ""):
			c.doc.Faultf(at, "give module and version, or source")
		case p.Module != "":
			if err := module.Check(p.Module, p.Version); err != nil {
				c.doc.Faultf(at+".version", "%v; write a whole version, such as v1.2.3", err)
			}
		default:
			c.require(p.Version == "", at+".version", "goes with module; the lock has the digest of source")
			c.require(plain(p.Source), at+".source", "must be one line of text")
		}
		inside := p.Package == "" || path.Clean(p.Package) == p.Package && !path.IsAbs(p.Package) && p.Package != ".." && !strings.HasPrefix(p.Package, "../")
		c.require(inside && module.CheckImportPath("m/"+p.Package+"x") == nil, at+".package", "%q is not the path of a package in the module, such as cmd/server", p.Package)
		for j, tag := range p.Tags {
			c.require(goTagForm.MatchString(tag), strictyaml.Index(at+".tags", j), "%q is not a build tag", tag)
		}
	}
}
