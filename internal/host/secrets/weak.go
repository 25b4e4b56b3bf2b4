package secrets

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// The rules for passwords of a database's roles. They reject what an attacker who guesses over a
// network tries first. Generate makes passwords of 128 bits.
const (
	minPassword = 12 // characters
	minOwn      = 8  // characters that do not follow from the previous one
)

// words are the common words in lists of the most used passwords, and usual names in a database.
var words = strings.Fields(`abc access account admin administrator app backup baseball change changeme data database db default demo
	dragon flower football forever guest hello home iloveyou king lad letmein login love lovely master me monkey my new pass passphrase
	passwd passwort password pg phone postgre postgres postgresql princess pw qwerty root secret server shadow sovereign sov sql
	start summer sunshine superman superuser system temp test the this trustno user vm welcome winter you`)

// rows are sequences of keyboards and of the alphabet.
var rows = []string{"abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm"}

// lookalikes replaces digits and signs by the letters that they stand for.
var lookalikes = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// CheckPassword returns an error if a secret of a machine is a role's password and value is too
// weak for it.
func CheckPassword(vm, secret, value string) error {
	role, ok := recipe.RoleOf(secret)
	if !ok {
		return nil
	}
	if why := weakness(value, vm, role); why != "" {
		return fmt.Errorf("the password of role %s of %s %s: `sov secrets generate %[2]s %[4]s` makes a strong one", role, vm, why, secret)
	}
	return nil
}

// Weak returns a warning for each stored password of the logins that CheckPassword rejects.
func Weak(vm string, logins []vmspec.Login, kept func(secret string) (value string, ok bool)) []string {
	var warnings []string
	for _, login := range logins {
		value, ok := kept(login.Secret)
		if why := weakness(value, vm, login.Role); ok && why != "" {
			warnings = append(warnings, fmt.Sprintf("the password of role %s %s: `sov secrets generate %s %s --replace` makes a strong one, for the next start",
				login.Role, why, vm, login.Secret))
		}
	}
	return warnings
}

// weakness describes what makes a password easy to guess; empty if no rule matches.
func weakness(password string, names ...string) string {
	lower := strings.ToLower(password)
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Sprintf("has fewer than %d characters", minPassword)
	case ownCharacters(lower) < minOwn:
		return "repeats characters, or follows the alphabet or a keyboard"
	}
	for _, text := range []string{lower, lookalikes.Replace(lower)} {
		if madeOf(text, names) {
			return "is made of well-known words or of the machine's or the role's name"
		}
	}
	return ""
}

// ownCharacters counts the characters that do not follow from the previous one, and in a repeated
// text only those of one repetition.
func ownCharacters(text string) int {
	for n := 1; n <= len(text)/2; n++ {
		if strings.HasPrefix(strings.Repeat(text[:n], len(text)/n+1), text) {
			text = text[:n]
			break
		}
	}
	own, before := 0, rune(-1)
	for _, r := range text {
		if !follows(before, r) {
			own++
		}
		before = r
	}
	return own
}

func follows(a, b rune) bool {
	if a == b {
		return true
	}
	for _, row := range rows {
		if a >= 0 && (strings.Contains(row, string([]rune{a, b})) || strings.Contains(row, string([]rune{b, a}))) {
			return true
		}
	}
	return false
}

// madeOf reports whether a text is a sequence of words and names with no more signs and digits
// between them than letters.
func madeOf(text string, names []string) bool {
	rest := letters(text)
	if rest == "" || len(text)-len(rest) > len(rest) {
		return false
	}
	ends := make([]bool, len(rest)+1) // where a sequence of words can end
	ends[0] = true
	for i := range rest {
		if !ends[i] {
			continue
		}
		for _, word := range slices.Concat(words, names) {
			if word = letters(strings.ToLower(word)); word != "" && strings.HasPrefix(rest[i:], word) {
				ends[i+len(word)] = true
			}
		}
	}
	return ends[len(rest)]
}

// letters returns the letters of a text.
func letters(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) {
			return r
		}
		return -1
	}, text)
}
