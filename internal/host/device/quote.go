package device

import (
	"regexp"
	"strings"
)

// plain matches words that need no quoting in any POSIX shell.
var plain = regexp.MustCompile(`^[A-Za-z0-9%+,./:@_-]+$`)

// Quote quotes words for a POSIX shell.
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
