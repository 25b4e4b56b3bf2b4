package progress

import (
	"strings"
	"unicode/utf8"
)

// minWrap is the width below which words are not kept together.
const minWrap = 20

// Wrap breaks a line at spaces into lines of at most columns columns, of which all but the first
// begin with indent spaces. A word that is wider than a line is broken where the line ends. If
// columns is 0, the width is unknown and the line is not broken.
func Wrap(line string, columns, indent int) []string {
	if columns <= 0 || utf8.RuneCountInString(line) <= columns {
		return []string{line}
	}
	if columns < minWrap || indent > columns/2 {
		indent = 0
	}
	var out []string
	rest, margin := []rune(line), ""
	for len(rest)+len(margin) > columns {
		room := columns - len(margin)
		end, next := room, room
		for i := room; i > 0 && columns >= minWrap; i-- {
			if rest[i] == ' ' {
				end, next = i, i+1
				break
			}
		}
		if strings.TrimSpace(string(rest[:end])) == "" { // only spaces precede the word
			end, next = room, room
		}
		out = append(out, margin+strings.TrimRight(string(rest[:end]), " "))
		rest = []rune(strings.TrimLeft(string(rest[next:]), " "))
		margin = strings.Repeat(" ", indent)
	}
	return append(out, margin+string(rest))
}
