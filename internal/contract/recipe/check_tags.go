package recipe

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

var tagOfRepository = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

// RepositoryTag splits a repository in the format of /etc/apk/repositories, "@edge https://…", into
// the tag, which may be empty, and the location. Packages of a tagged repository are used only for
// items of install with the tag ("nginx@edge") and their dependencies.
func RepositoryTag(repository string) (tag, place string) {
	rest, tagged := strings.CutPrefix(repository, "@")
	if !tagged {
		return "", repository
	}
	tag, place, _ = strings.Cut(rest, " ")
	return tag, strings.TrimLeft(place, " ")
}

// tags checks that each tag of install has a repository.
func (c *checker) tags() {
	var known []string
	for _, repository := range c.Packages.Repositories {
		if tag, _ := RepositoryTag(repository); tag != "" {
			known = append(known, tag)
		}
	}
	for i, name := range c.Packages.Install {
		_, tag, tagged := strings.Cut(name, "@")
		if j := strings.IndexAny(tag, "<>=~"); j >= 0 {
			tag = tag[:j]
		}
		at := strictyaml.Index("packages.install", i)
		c.require(!tagged || slices.Contains(known, tag), at, "no repository has the tag @%s; write it before one in packages.repositories: \"@%s https://…\"", tag, tag)
	}
}
