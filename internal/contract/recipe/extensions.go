package recipe

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// An Extension is created in databases, and updated when the image has another version. A scalar is
// short for Name.
type Extension struct {
	Name    string `yaml:"name"`    // as CREATE EXTENSION has it, or a name of knownExtensions
	Package string `yaml:"package"` // the package that has it; empty: that of knownExtensions, or none
	// Databases are those of the roles, and postgres. Empty: those of the roles; without any,
	// postgres.
	Databases []string `yaml:"databases"`
	Schema    string   `yaml:"schema"`  // created if it does not exist; empty: that of the extension, else public
	Version   string   `yaml:"version"` // empty: the newest that the image has
	// Preload is the library that the server must preload; may be empty.
	Preload string `yaml:"preload"`
}

// Short implements strictyaml.Abbreviated.
func (e *Extension) Short() any { return &e.Name }

// contrib is Alpine's package with PostgreSQL's contrib extensions.
const contrib = "postgresql-contrib"

// knownExtensions are the extensions of Alpine's packages: aports, community/postgresql-pgvector,
// community/postgis and the like, and contrib's folders of PostgreSQL itself (main/postgresql17,
// subpackage contrib).
var knownExtensions = func() map[string]Extension {
	known := map[string]Extension{
		"pgvector":         {Name: "vector", Package: "postgresql-pgvector"},
		"vector":           {Name: "vector", Package: "postgresql-pgvector"},
		"postgis":          {Name: "postgis", Package: "postgis"},
		"postgis_raster":   {Name: "postgis_raster", Package: "postgis"},
		"postgis_topology": {Name: "postgis_topology", Package: "postgis"},
		"hypopg":           {Name: "hypopg", Package: "postgresql-hypopg"},
		"pg_cron":          {Name: "pg_cron", Package: "postgresql-pg_cron", Preload: "pg_cron"},
		"timescaledb":      {Name: "timescaledb", Package: "postgresql-timescaledb", Preload: "timescaledb"},
	}
	for name := range strings.FieldsSeq(`amcheck bloom btree_gin btree_gist citext cube dblink dict_int dict_xsyn earthdistance file_fdw
		fuzzystrmatch hstore intarray isn lo ltree pageinspect pg_buffercache pg_freespacemap pg_prewarm pg_stat_statements pg_surgery
		pg_trgm pg_visibility pg_walinspect pgcrypto pgrowlocks pgstattuple postgres_fdw seg sslinfo tablefunc tcn tsm_system_rows
		tsm_system_time unaccent uuid-ossp xml2`) {
		known[name] = Extension{Name: name, Package: contrib}
	}
	statements := known["pg_stat_statements"]
	statements.Preload = "pg_stat_statements"
	known[statements.Name] = statements
	return known
}()

// completeExtensions applies knownExtensions, and adds the packages. A recipe without repositories
// takes everything from its base image.
func (r *Recipe) completeExtensions() {
	for i := range r.Postgres.Extensions {
		e := &r.Postgres.Extensions[i]
		if known, ok := knownExtensions[e.Name]; ok {
			e.Name = known.Name
			setDefault(&e.Package, r.Packages.ofMajor(known.Package))
			setDefault(&e.Preload, known.Preload)
		}
		if len(e.Databases) == 0 {
			for _, role := range r.Postgres.Roles {
				e.Databases = addOnce(e.Databases, role.Database)
			}
		}
		if len(e.Databases) == 0 {
			e.Databases = []string{"postgres"}
		}
		if e.Package != "" && len(r.Packages.Repositories) > 0 && r.Postgres.Enabled {
			r.Packages.require([]string{e.Package})
		}
	}
}

// majorForm is a package of the server, or of what goes with it, of one major version.
var majorForm = regexp.MustCompile(`^(postgresql[0-9]+)(-[a-z0-9-]+)?([<>=~@].*)?$`)

// ofMajor returns contrib's package of the major version that the recipe installs, if it names one.
func (p *Packages) ofMajor(name string) string {
	if name != contrib {
		return name
	}
	for _, listed := range p.Install {
		if m := majorForm.FindStringSubmatch(listed); m != nil {
			return m[1] + "-contrib"
		}
	}
	return name
}

var (
	extensionForm = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,62}$`)
	versionForm   = regexp.MustCompile(`^[A-Za-z0-9._+-]{0,62}$`)
)

// extensions checks postgres.extensions.
func (c *checker) extensions() {
	p := c.Postgres
	for i, e := range p.Extensions {
		at := strictyaml.Index("postgres.extensions", i)
		c.require(extensionForm.MatchString(e.Name), at, "%q is not the name of an extension", e.Name)
		c.require(slices.IndexFunc(p.Extensions, func(o Extension) bool { return o.Name == e.Name }) == i, at, "extension %q is listed twice", e.Name)
		c.require(e.Package == "" || packageForm.MatchString(e.Package), at+".package", "%q is not a package", e.Package)
		c.require(e.Schema == "" || databaseForm.MatchString(e.Schema) && !strings.HasPrefix(e.Schema, "pg_"), at+".schema", "%q is not the name of a schema", e.Schema)
		c.require(versionForm.MatchString(e.Version), at+".version", "%q is not a version", e.Version)
		c.require(e.Preload == "" || extensionForm.MatchString(e.Preload), at+".preload", "%q is not the name of a library", e.Preload)
		for j, database := range e.Databases {
			known := database == "postgres" || slices.ContainsFunc(p.Roles, func(r Role) bool { return r.Database == database })
			c.require(known, strictyaml.Index(at+".databases", j), "database %q does not exist: must be postgres or a database of postgres.roles", database)
		}
	}
}
