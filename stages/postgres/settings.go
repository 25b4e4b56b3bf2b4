package postgres

import (
	"errors"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/strictyaml"
	"github.com/sovereign-sql/sov/stages/postgres/parameters"
)

// checkSettings returns an error for settings of the recipe with which the server does not start.
// It warns about settings that the build cannot check.
func (s *Server) checkSettings(t *tree.Tree, r *recipe.Recipe, warnf func(format string, args ...any)) error {
	values := map[string]string{}
	for name, value := range r.Postgres.Settings {
		values[name] = string(value)
	}
	at := func(name string) string { return strictyaml.Join("postgres.settings", name) }
	faults, err := parameters.Check(s.Major, values)
	if err != nil {
		return err
	}
	var refused []error
	var extensions []string
	for _, f := range faults {
		switch {
		case f.Extension:
			extensions = append(extensions, f.Name)
		case f.Warning:
			warnf("%v", r.Errorf(at(f.Name), "%s", f.What))
		default:
			refused = append(refused, r.Errorf(at(f.Name), "%s", f.What))
		}
	}
	if len(extensions) > 0 {
		warnf("postgres.settings: parameters of extensions are not checked: %s", strings.Join(extensions, ", "))
	}
	for library := range strings.SplitSeq(values["shared_preload_libraries"], ",") {
		// The build only knows $libdir; the server finds other libraries itself.
		library = strings.Trim(strings.TrimSpace(library), `"`)
		if library != "" && !strings.Contains(library, "/") && !s.hasLibrary(t, strings.TrimSuffix(library, ".so")) {
			refused = append(refused, r.Errorf(at("shared_preload_libraries"), "the server in %s has no module %s, and would not start: "+
				"add its package to packages.install (Alpine's postgresql-contrib has those of contrib)", s.Dir, library))
		}
	}
	return errors.Join(refused...)
}
