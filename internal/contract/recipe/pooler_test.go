package recipe

import (
	"slices"
	"strings"
	"testing"
)

func TestPooler(t *testing.T) {
	const head = "name: a\nbase: {image: alpine}\nnetwork: {tap: vm_a, publish: [%]}\npackages: {repositories: [https://a/b], install: [postgresql]}\n"
	for _, tt := range []struct {
		name, publish, postgres string
		want                    Pooler
		published               []Publish
		fault                   string
	}{
		{"word", "5432", "pooler: pgbouncer", Pooler{"pgbouncer", "transaction", 10, 200, 6432}, []Publish{{5432, "postgres", "tcp", 0}, {6432, "pgbouncer", "tcp", 0}}, ""},
		{"mapping", "5432", "pooler: {program: pgbouncer, mode: session, size: 3, clients: 9, port: 7000}", Pooler{"pgbouncer", "session", 3, 9, 7000},
			[]Publish{{5432, "postgres", "tcp", 0}, {7000, "pgbouncer", "tcp", 0}}, ""},
		{"published by the recipe", "{port: 6432, host_port: 5433}", "pooler: pgbouncer", Pooler{"pgbouncer", "transaction", 10, 200, 6432}, []Publish{{6432, "pgbouncer", "tcp", 5433}}, ""},
		{"not published", "", "pooler: pgbouncer", Pooler{"pgbouncer", "transaction", 10, 200, 6432}, nil, ""},
		{"another program", "", "pooler: odyssey", Pooler{}, nil, `"odyssey" must be pgbouncer`},
		{"mode", "", "pooler: {program: pgbouncer, mode: fast}", Pooler{}, nil, `"fast" must be session`},
		{"the server's port", "", "pooler: {program: pgbouncer, port: 5432}", Pooler{}, nil, "not a free port"},
		{"its role", "", "pooler: pgbouncer, roles: [{name: pgbouncer}]", Pooler{}, nil, "uses the role pgbouncer itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Parse("a.yaml", []byte(strings.Replace(head, "%", tt.publish, 1)+"postgres: {enabled: true, "+tt.postgres+"}\n"))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("%v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Postgres.Pooler != tt.want || !slices.Equal(r.Network.Publish, tt.published) {
				t.Errorf("%+v, published %+v", r.Postgres.Pooler, r.Network.Publish)
			}
			if !slices.Contains(r.Packages.Install, "pgbouncer") || !slices.ContainsFunc(r.Users, func(u User) bool { return u.Name == "pgbouncer" && u.Group == "pgbouncer" }) {
				t.Errorf("packages %q, users %+v", r.Packages.Install, r.Users)
			}
		})
	}
	if _, err := Parse("a.yaml", []byte(strings.Replace(head, "%", "", 1)+"postgres: {enabled: true, pooler: pgbouncer}\nservices: [{name: pgbouncer, command: [/x]}]\n")); err == nil || !strings.Contains(err.Error(), `another service "pgbouncer"`) {
		t.Error(err)
	}
}
