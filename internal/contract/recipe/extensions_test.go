package recipe

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestExtensions(t *testing.T) {
	const head = "name: a\nbase: {image: alpine}\nnetwork: {tap: vm_a}\n"
	const packages = "packages: {repositories: [https://a/b], install: [%]}\n"
	for _, tt := range []struct {
		name, install, postgres string
		want                    []Extension
		packages                []string // in addition to install
		fault                   string
	}{
		{"short", "postgresql", "roles: [{name: app}, {name: b, database: app}], extensions: [pgvector, pg_stat_statements, uuid-ossp]", []Extension{
			{Name: "vector", Package: "postgresql-pgvector", Databases: []string{"app"}},
			{Name: "pg_stat_statements", Package: "postgresql-contrib", Databases: []string{"app"}, Preload: "pg_stat_statements"},
			{Name: "uuid-ossp", Package: "postgresql-contrib", Databases: []string{"app"}},
		}, []string{"postgresql-pgvector", "postgresql-contrib"}, ""},
		{"another major", "postgresql16=~16.4, postgresql16-client", "extensions: [pg_trgm]", []Extension{
			{Name: "pg_trgm", Package: "postgresql16-contrib", Databases: []string{"postgres"}}}, []string{"postgresql16-contrib"}, ""},
		{"there already", "postgresql17, postgresql17-contrib>=17.2", "extensions: [pg_trgm]", []Extension{
			{Name: "pg_trgm", Package: "postgresql17-contrib", Databases: []string{"postgres"}}}, nil, ""},
		{"mapping", "postgresql", "extensions: [{name: own, package: own-pg, databases: [postgres], schema: s, version: 1.0-beta, preload: own}]", []Extension{
			{Name: "own", Package: "own-pg", Databases: []string{"postgres"}, Schema: "s", Version: "1.0-beta", Preload: "own"}}, []string{"own-pg"}, ""},
		{"of the image", "postgresql", "extensions: [own]", []Extension{{Name: "own", Databases: []string{"postgres"}}}, nil, ""},
		{"twice", "postgresql", "extensions: [vector, pgvector]", nil, nil, `"vector" is listed twice`},
		{"no database", "postgresql", "extensions: [{name: vector, databases: [other]}]", nil, nil, `database "other" does not exist`},
		{"no name", "postgresql", "extensions: [{package: a}]", nil, nil, `"" is not the name of an extension`},
		{"schema", "postgresql", "extensions: [{name: vector, schema: pg_x}]", nil, nil, "not the name of a schema"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Parse("a.yaml", []byte(head+strings.ReplaceAll(packages, "%", tt.install)+"postgres: {enabled: true, "+tt.postgres+"}\n"))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("%v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(r.Postgres.Extensions, tt.want) {
				t.Errorf("%+v, want %+v", r.Postgres.Extensions, tt.want)
			}
			if want := append(strings.Split(tt.install, ", "), tt.packages...); !slices.Equal(r.Packages.Install, want) {
				t.Errorf("packages %q, want %q", r.Packages.Install, want)
			}
		})
	}
}
