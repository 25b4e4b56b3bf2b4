package postgres

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// standaloneAccess is pg_hba.conf of a machine that runs from a disk image and got its address by DHCP: the build does not
// know the networks that it is in, for which PostgreSQL has the word samenet, and there is no host that is told from others.
// So "tap" of postgres.networks is its own subnet, and postgres.superuser: host lets the superuser in from there.
func standaloneAccess(access string, r *recipe.Recipe) (string, error) {
	own, err := expand(recipe.NetworkTAP, r.Network)
	if err != nil {
		return "", err
	}
	named := slices.Contains(r.Postgres.Networks, recipe.NetworkTAP)
	var b strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(access) {
		// TYPE  DATABASE  USER  ADDRESS  [MASK]  METHOD, of which build writes the address as a word or a prefix.
		fields := strings.Fields(line)
		if len(fields) >= 5 && strings.HasPrefix(fields[0], "host") {
			fromHost := fields[2] == "postgres" && fields[3] != "all"
			fromTAP := named && slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.String() == fields[3] })
			if fromHost || fromTAP {
				line = strings.Join([]string{fields[0], fields[1], fields[2], "samenet", fields[len(fields)-1]}, "  ") + "\n"
				if seen[line] {
					continue
				}
				seen[line] = true
			}
		}
		b.WriteString(line)
	}
	return b.String(), nil
}
