package cluster

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// saslPrep prepares a password as PostgreSQL's server and libpq do before they hash it (RFC 4013;
// pg_saslprep in src/common/saslprep.c): a password that the profile forbids, or that holds
// characters younger than Unicode 3.2, is taken as it is.
func saslPrep(password string) string {
	if !utf8.ValidString(password) {
		return password
	}
	// RFC 4013, section 2.1, mapping; 2.2, normalization.
	mapped := strings.Map(func(r rune) rune {
		switch {
		case nonASCIISpace.hold(r):
			return ' '
		case mappedToNothing.hold(r):
			return -1
		default:
			return r
		}
	}, password)
	prepared := norm.NFKC.String(mapped)
	if prepared == "" {
		return password
	}
	// 2.3, prohibited output; 2.5, unassigned code points.
	for _, r := range prepared {
		if prohibited.hold(r) || unassigned.hold(r) {
			return password
		}
	}
	if !bidiAllowed(prepared) {
		return password
	}
	return prepared
}

// bidiAllowed is RFC 3454, section 6: a text with a right-to-left character has no left-to-right
// one and begins and ends with a right-to-left character.
func bidiAllowed(s string) bool {
	if !strings.ContainsFunc(s, rightToLeft.hold) {
		return true
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return !strings.ContainsFunc(s, leftToRight.hold) && rightToLeft.hold(first) && rightToLeft.hold(last)
}

// ranges is a sorted list of first and last code points.
type ranges [][2]rune

// hold reports whether r is in one of t.
func (t ranges) hold(r rune) bool {
	_, found := slices.BinarySearchFunc(t, r, func(span [2]rune, r rune) int {
		switch {
		case span[1] < r:
			return -1
		case span[0] > r:
			return 1
		default:
			return 0
		}
	})
	return found
}
