package packages

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/apk"
)

// A MajorError says that the repositories lack a major version of PostgreSQL.
type MajorError struct {
	Major int
	Have  []int // major versions in the repositories, in order
}

func (e *MajorError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("the repositories have no PostgreSQL %d, nor another", e.Major)
	}
	return fmt.Sprintf("the repositories have no PostgreSQL %d: they have %s", e.Major, Majors(e.Have))
}

// Majors formats a list of major versions.
func Majors(list []int) string {
	var words []string
	for _, n := range list {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ", ")
}

// pinned returns the requested dependencies, with the virtual names of PostgreSQL's packages
// replaced by those of version r.Postgres.
func (r Request) pinned(servers []int) ([]string, error) {
	words := recipe.PinPostgres(r.Install, r.Postgres)
	if !slices.Equal(words, r.Install) && !slices.Contains(servers, r.Postgres) {
		return nil, &MajorError{r.Postgres, servers}
	}
	return words, nil
}

// serversIn returns the major versions of PostgreSQL's server in the repositories, in order.
func serversIn(repositories []*apk.Repository) (majors []int) {
	for _, repository := range repositories {
		for _, p := range repository.Index.Packages {
			if major := lock.ServerMajor(p.Name); major != 0 && repository.Tag == "" {
				majors = append(majors, major)
			}
		}
	}
	slices.Sort(majors)
	return slices.Compact(majors)
}

// Servers returns the major versions of PostgreSQL that the repositories have, in order.
func (r Request) Servers(ctx context.Context) ([]int, error) {
	repositories, err := r.indexes(ctx)
	return serversIn(repositories), err
}
