package cluster

import (
	"sync"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// saslProfile is SASLprep as PostgreSQL has it (pg_saslprep in src/common/saslprep.c). It differs
// from the module's in two characters: a zero-width space (U+200B), which RFC 3454 lists both as a
// space and as nothing, is a space, and the Mongolian soft hyphen (U+1806), which the module's
// table lacks, is nothing.
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

// saslPrep prepares a password as PostgreSQL's server and libpq do before they hash it (RFC 4013):
// a password that the profile forbids, or that holds characters younger than Unicode 3.2, is taken
// as it is.
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
