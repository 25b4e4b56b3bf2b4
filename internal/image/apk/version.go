package apk

import (
	"cmp"
	"math"
	"strings"
)

// A version has the form digits{.digits}[letter[digits]]{_suffix[digits]}[~hash][-rdigits] and is
// compared part by part from the left. partKind is the kind of the next part: of two versions with
// a common prefix, the one that continues with the lower kind is the greater.
type partKind int

const (
	partInvalid partKind = iota - 1
	partComponent
	partNumber // the number a version begins with, and digits after leading zeros or a letter
	partLetter
	partSuffix
	partSuffixNumber
	partHash
	partRevision
	partEnd
)

// suffixRank orders the suffixes. A version with a negative one precedes the same version without
// it.
var suffixRank = map[string]int64{
	"alpha": -4, "beta": -3, "pre": -2, "rc": -1,
	"cvs": 0, "svn": 1, "git": 2, "hg": 3, "p": 4,
}

// ValidVersion reports whether v is a version for apk. Packages with other versions are not
// installable.
func ValidVersion(v string) bool {
	s := scanVersion(v)
	for s.kind != partEnd && s.kind != partInvalid {
		s.next()
	}
	return s.kind == partEnd
}

// CompareVersions returns -1 if a is older than b, +1 if it is newer and 0 if they are equal. The
// order of malformed versions is consistent but meaningless.
func CompareVersions(a, b string) int { return compareVersions(a, b, false) }

// MatchVersion reports whether one of the relations of op holds between version and want.
func MatchVersion(version string, op Op, want string) bool {
	switch compareVersions(version, want, op&OpFuzzy != 0) {
	case -1:
		return op&OpLess != 0
	case +1:
		return op&OpGreater != 0
	}
	return op&OpEqual != 0
}

// compareVersions compares a and b. When fuzzy, versions are equal if b's parts run out before they
// differ.
func compareVersions(a, b string, fuzzy bool) int {
	if a == b {
		return 0
	}
	sa, sb := scanVersion(a), scanVersion(b)
	for sa.kind == sb.kind && sa.kind != partEnd && sa.kind != partInvalid {
		pa, pb := sa.next(), sb.next()
		if c := cmp.Or(cmp.Compare(pa.number, pb.number), cmp.Compare(pa.text, pb.text)); c != 0 {
			return c
		}
	}
	if sa.kind == sb.kind || fuzzy {
		return 0
	}
	if sa.isPrerelease() {
		return -1
	}
	if sb.isPrerelease() {
		return +1
	}
	return cmp.Compare(sb.kind, sa.kind)
}

// A versionScanner splits a version from the left. kind is that of the part at the start of rest.
type versionScanner struct {
	kind partKind
	rest string
}

// A versionPart is the comparable value of a part: a number or rank, or the text of a hash.
type versionPart struct {
	number int64
	text   string
}

func scanVersion(v string) versionScanner {
	if v == "" {
		return versionScanner{kind: partEnd}
	}
	return versionScanner{kind: partNumber, rest: v}
}

// isPrerelease reports whether the next part is a suffix like _rc.
func (s versionScanner) isPrerelease() bool {
	return s.kind == partSuffix && s.next().number < 0
}

// next returns the part at the start of rest and finds the kind of the following one.
func (s *versionScanner) next() versionPart {
	var p versionPart
	if s.rest == "" { // the separator is the last character
		s.kind = partEnd
		return p
	}
	switch s.kind {
	case partComponent:
		if strings.HasPrefix(s.rest, "0") {
			return s.leadingZeros()
		}
		p.number = number(s.take(isDigit))
	case partNumber, partSuffixNumber, partRevision:
		p.number = number(s.take(isDigit))
	case partLetter:
		p.number, s.rest = int64(s.rest[0]), s.rest[1:]
	case partSuffix:
		rank, ok := suffixRank[s.take(isLower)]
		if !ok {
			s.kind = partInvalid
			return versionPart{number: -math.MaxInt64}
		}
		p.number = rank
	case partHash:
		p.text = s.take(isHexDigit)
	}
	s.advance()
	return p
}

// leadingZeros returns the leading zeros of a component as a part. Components with leading zeros
// are compared like decimal fractions: more zeros are less; then the number decides.
func (s *versionScanner) leadingZeros() versionPart {
	zeros := s.take(func(c byte) bool { return c == '0' })
	if s.rest != "" && isDigit(s.rest[0]) {
		s.kind = partNumber
	} else {
		s.advance()
	}
	return versionPart{number: -int64(len(zeros))}
}

// advance finds the kind of the part at the start of rest, given the previous one, and removes the
// separator.
func (s *versionScanner) advance() {
	before := s.kind
	s.kind = partInvalid
	if s.rest == "" {
		s.kind = partEnd
		return
	}
	c := s.rest[0]
	switch {
	case (before == partComponent || before == partNumber) && isLower(c):
		s.kind = partLetter
		return
	case before == partLetter && isDigit(c):
		s.kind = partNumber
		return
	case before == partSuffix && isDigit(c):
		s.kind = partSuffixNumber
		return
	case c == '.' && before <= partNumber:
		s.kind = partComponent
	case c == '_' && before <= partSuffixNumber:
		s.kind = partSuffix
	case c == '~' && before < partHash && len(s.rest) > 1 && isHexDigit(s.rest[1]):
		s.kind = partHash
	case strings.HasPrefix(s.rest, "-r") && before <= partRevision:
		s.kind = partRevision
		s.rest = s.rest[1:]
	}
	s.rest = s.rest[1:]
}

// take removes and returns the bytes at the start of rest that satisfy f.
func (s *versionScanner) take(f func(byte) bool) string {
	i := 0
	for i < len(s.rest) && f(s.rest[i]) {
		i++
	}
	taken := s.rest[:i]
	s.rest = s.rest[i:]
	return taken
}

// number returns the value of a string of digits, or the largest int64 if it does not fit.
func number(digits string) int64 {
	var n int64
	for i := range len(digits) {
		d := int64(digits[i] - '0')
		if n > (math.MaxInt64-d)/10 {
			return math.MaxInt64
		}
		n = n*10 + d
	}
	return n
}

func isDigit(c byte) bool    { return '0' <= c && c <= '9' }
func isLower(c byte) bool    { return 'a' <= c && c <= 'z' }
func isHexDigit(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' }
