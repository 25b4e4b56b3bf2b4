package guestinit

import (
	"path"
	"regexp"
	"strconv"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// Scripts of packages are not run. This file does what the trigger of Alpine's postgresql-common
// does with the program pg_versions: it chooses one of the versions in /usr/libexec/postgresqlN and
// links its programs into /usr/bin.

// Paths of Alpine's PostgreSQL. The paths without a version are links to those with the chosen
// version.
const postgresPrograms = "usr/libexec/postgresql"

var postgresLinks = []string{"etc/postgresql", postgresPrograms, "usr/share/postgresql"}

var postgresVersion = regexp.MustCompile(`^postgresql([0-9]{1,3})$`)

// linkPostgres adds the links to the programs of Alpine's PostgreSQL. It keeps programs that exist
// in /usr/bin.
func linkPostgres(b *overlay.Builder, below *tree.Tree) {
	version := chosenPostgres(below)
	if version == "" {
		return
	}
	_, programs, err := below.Resolve(postgresPrograms + version)
	if err != nil || !programs.IsDir() {
		return // a link of the base image to a missing version
	}
	for _, link := range postgresLinks {
		if _, n, err := below.Resolve(link + version); err == nil && n.IsDir() && replaceable(below, link) {
			b.Symlink("/"+link, "postgresql"+version)
		}
	}
	for _, e := range programs.Entries() {
		if isProgram(below, postgresPrograms+version+"/"+e.Name) && replaceable(below, "usr/bin/"+e.Name) {
			b.Symlink("/usr/bin/"+e.Name, "/"+postgresPrograms+"/"+e.Name)
		}
	}
}

// chosenPostgres returns the version whose programs to link, or "". It prefers the base image's
// choice, unless that version lacks the server and another version has it. Otherwise it is the
// newest version with a server, or else the newest.
func chosenPostgres(below *tree.Tree) string {
	hasServer := func(version string) bool { return isProgram(below, postgresPrograms+version+"/postgres") }
	chosen := ""
	if n, ok := below.Lookup(postgresPrograms); ok {
		m := postgresVersion.FindStringSubmatch(path.Base(n.Target))
		if !n.IsSymlink() || m == nil {
			return ""
		}
		if chosen = m[1]; hasServer(chosen) {
			return chosen
		}
	}
	_, dir, err := below.Resolve(path.Dir(postgresPrograms))
	if err != nil || !dir.IsDir() {
		return ""
	}
	servers, clients := 0, 0 // the newest of each
	for _, e := range dir.Entries() {
		m := postgresVersion.FindStringSubmatch(e.Name)
		if m == nil || !isProgram(below, postgresPrograms+m[1]+"/psql") {
			continue
		}
		n, _ := strconv.Atoi(m[1]) // three digits
		if hasServer(m[1]) {
			servers = max(servers, n)
		}
		clients = max(clients, n)
	}
	switch {
	case servers > 0:
		return strconv.Itoa(servers)
	case chosen == "" && clients > 0:
		return strconv.Itoa(clients)
	}
	return chosen
}

func isProgram(t *tree.Tree, name string) bool {
	_, n, err := t.Resolve(name)
	return err == nil && n.IsRegular() && n.Mode&0o111 != 0
}

// replaceable reports whether a link may be created at a name: the name does not exist or is a
// link.
func replaceable(t *tree.Tree, name string) bool {
	n, ok := t.Lookup(name)
	return !ok || n.IsSymlink()
}
