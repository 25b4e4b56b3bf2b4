package recipe

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxMajor bounds major versions of PostgreSQL, which have two digits from 10 on.
const maxMajor = 99

// virtualPostgres are names that each of Alpine's packages of a major version provides:
// "postgresql-client" is provided by postgresql17-client (aports, main/postgresql17/APKBUILD:
// _subpkg_common).
var virtualPostgres = []string{"", "-client", "-contrib", "-contrib-jit", "-jit", "-plperl", "-plperl-contrib", "-plpython3", "-plpython3-contrib", "-pltcl"}

// installForm divides a word of packages.install: the name, and a constraint or a tag.
var installForm = regexp.MustCompile(`^(postgresql[a-z0-9-]*)([<>=~@].*)?$`)

// PinPostgres returns words of packages.install in which virtual names of PostgreSQL's packages are
// those of a major version: postgresql-contrib becomes postgresql17-contrib. With major 0 they
// stay.
func PinPostgres(install []string, major int) []string {
	if major == 0 {
		return install
	}
	out := slices.Clone(install)
	for i, word := range out {
		m := installForm.FindStringSubmatch(word)
		if m == nil {
			continue
		}
		if rest := strings.TrimPrefix(m[1], "postgresql"); slices.Contains(virtualPostgres, rest) {
			out[i] = "postgresql" + strconv.Itoa(major) + rest + m[2]
		}
	}
	return out
}

func (c *checker) postgresMajor() {
	p := c.Postgres
	valid := func(major int) bool { return major == 0 || major >= 10 && major <= maxMajor }
	c.require(valid(p.Major), "postgres.major", "%d must be a major version of PostgreSQL, such as 17", p.Major)
	c.require(valid(p.UpgradeFrom), "postgres.upgrade_from", "%d must be a major version of PostgreSQL, such as 15", p.UpgradeFrom)
	c.require(p.UpgradeFrom == 0 || p.Major == 0 || p.UpgradeFrom < p.Major, "postgres.upgrade_from", "%d must be lower than postgres.major, %d", p.UpgradeFrom, p.Major)
}
