package cluster

import (
	"sync"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// saslProfile is PostgreSQL's SASLprep (pg_saslprep in src/common/saslprep.c). It differs from the
// module's in two characters: U+200B (zero width space), which RFC 3454 lists in two tables, maps
// to a space, and U+1806 (Mongolian soft hyphen), which the module's table lacks, is removed.
var saslProfile = sync.OnceValue(func() stringprep.Profile {
	spaces := stringprep.Mapping{}
	for _, span := range stringprep.TableC1_2 {
		for r := span[0]; r <= span[1]; r++ {
			spaces[r] = []rune{' '}
		}
	}
	profile := stringprep.SASLprep
	profile.Mappings = []stringprep.Mapping{spaces, stringprep.TableB1, {0x1806: nil}}
	return profile
})

// saslPrep normalizes a password as PostgreSQL's server and libpq do before hashing (RFC 4013). A
// password that the profile prohibits, or with characters newer than Unicode 3.2, is returned
// unchanged.
func saslPrep(password string) string {
	if !utf8.ValidString(password) {
		return password
	}
	prepared, err := saslProfile().Prepare(password)
	if err != nil || prepared == "" {
		return password
	}
	return prepared
}
