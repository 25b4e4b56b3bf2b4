package postgres

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/guestinit"
)

// extensionDirs returns the directories in which the server may look for extensions:
// /usr/share/postgresql17/extension for /usr/libexec/postgresql17 (Alpine),
// /usr/share/postgresql/17/extension for /usr/lib/postgresql/17/bin (Debian),
// /usr/local/share/postgresql/extension for /usr/local/bin (Docker Hub), and the default of
// PostgreSQL's configure.
func (s *Server) extensionDirs() []string {
	share := strings.Replace(strings.Replace(s.Dir, "/libexec/", "/share/", 1), "/lib/", "/share/", 1)
	return []string{path.Join(share, "extension"), path.Join(share, "../extension"),
		path.Join(s.Dir, "../share/postgresql/extension"), path.Join(s.Dir, "../share/extension")}
}

// hasExtension reports whether the server has an extension's control file.
func (s *Server) hasExtension(t *tree.Tree, name string) bool {
	return slices.ContainsFunc(s.extensionDirs(), func(dir string) bool {
		_, n, err := t.Resolve(strings.TrimPrefix(path.Join(dir, name+".control"), "/"))
		return err == nil && n.IsRegular()
	})
}

// checkExtensions looks for the recipe's extensions in the image: a package may be for another
// major version of the server.
func (s *Server) checkExtensions(t *tree.Tree, list []recipe.Extension) error {
	var missing []recipe.Extension
	for _, e := range list {
		if !s.hasExtension(t, e.Name) {
			missing = append(missing, e)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	e := missing[0]
	var elsewhere []string
	err := t.Walk(func(p string, n *tree.Inode) error {
		if path.Base(p) == e.Name+".control" && path.Base(path.Dir(p)) == "extension" {
			elsewhere = append(elsewhere, "/"+p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(elsewhere) > 0 {
		return fmt.Errorf("extension %s: the image has it for another server (%s), and runs PostgreSQL %s in %s: "+
			"install the server of that major version alone (packages.install), or a package of the extension for PostgreSQL %d (postgres.extensions[].package)",
			e.Name, strings.Join(elsewhere, ", "), s.Version, s.Dir, s.Major)
	}
	where := "its package is unknown to sov: name it (postgres.extensions: [{name: " + e.Name + ", package: ...}])"
	if e.Package != "" {
		where = "the package " + e.Package + " does not bring it for this version"
	}
	return fmt.Errorf("extension %s: PostgreSQL %s in %s does not have it: %s", e.Name, s.Version, s.Dir, where)
}

// preloads returns the libraries that the server must preload for the extensions.
func preloads(list []recipe.Extension) (libraries []string) {
	for _, e := range list {
		if e.Preload != "" {
			libraries = append(libraries, e.Preload)
		}
	}
	return libraries
}

// extensionSteps returns the steps that create and update the extensions, in databases that
// accountSteps created.
func extensionSteps(list []recipe.Extension, socket string) (steps []guestspec.Step) {
	for _, e := range list {
		for _, database := range e.Databases {
			command := []string{guestinit.ProgramPath, "postgres-extension", "--socket=" + socket, "--name=" + e.Name, "--database=" + database}
			if e.Schema != "" {
				command = append(command, "--schema="+e.Schema)
			}
			if e.Version != "" {
				command = append(command, "--version="+e.Version)
			}
			// An update may rewrite tables.
			steps = append(steps, guestspec.Step{Command: command, Timeout: guestspec.Duration(time.Hour)})
		}
	}
	return steps
}
