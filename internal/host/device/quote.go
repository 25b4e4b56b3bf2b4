package device

import (
	"regexp"
	"strings"
)

// plain are words that mean themselves to every POSIX shell, whatever stands before and after.
var plain = regexp.MustCompile(`^[A-Za-z0-9%+,./:@_-]+$`)

// Quote makes a line of words that a POSIX shell takes for exactly these.
func Quote(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		if !plain.MatchString(word) {
			// Nothing is special between single quotes but their end (POSIX, Shell Command
			// Language, 2.2.2).
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		quoted[i] = word
	}
	return strings.Join(quoted, " ")
}
