package device

import (
	"bytes"
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// consent is the timeout of su: the root manager's app prompts on the phone.
const consent = 40 * time.Second

// A shape is a way to become root.
type shape struct{ before []string }

// Shapes by what the probe prints. KernelSU's, Magisk's and util-linux's su take a command after
// -c; the su of Android's own debuggable builds takes a user and then a program (system/extras/su).
var shapes = map[string]*shape{
	"root":  {},
	"su -c": {before: []string{"su", "-c"}},
	"su 0":  {before: []string{"su", "0", "sh", "-c"}},
}

// wrap returns a shell command that runs the script as root.
func (s *shape) wrap(script string) string {
	if len(s.before) == 0 {
		return script
	}
	return Quote(append(append([]string(nil), s.before...), script))
}

// probe prints the working shape, or the output of each su. A su may print warnings before the
// command's output.
const probe = `[ "$(id -u)" = 0 ] && { echo root; exit; }
a=$(su -c 'id -u' </dev/null 2>&1)
case "$a" in 0|*[!0-9]0) echo 'su -c'; exit;; esac
b=$(su 0 id -u </dev/null 2>&1)
case "$b" in 0|*[!0-9]0) echo 'su 0'; exit;; esac
printf '%s\n' "$a"`

// becomeRoot detects, once, how to become root.
func (l *link) becomeRoot(ctx context.Context) (*shape, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.su != nil {
		return l.su, nil
	}
	var out bytes.Buffer
	c := Command{Args: []string{"su", "-c", "id -u"}, Stdout: &limited{w: &out, left: maxTail}, Limit: consent}
	if err := l.run(ctx, c, probe); err != nil {
		return nil, err
	}
	su, said := readProbe(out.String())
	if su == nil {
		return nil, &RootError{Phone: l.name, Said: said}
	}
	l.su = su
	return su, nil
}

// readProbe returns the shape in the probe's output, or su's message.
func readProbe(text string) (*shape, string) {
	answer := strings.TrimSpace(text)
	if su := shapes[answer]; su != nil {
		return su, ""
	}
	if answer == "" {
		answer = "su does nothing"
	}
	return nil, Printable(answer)
}

// Printable converts a phone's output to one line without control characters.
func Printable(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r != ' ' && (!unicode.IsPrint(r) || r == utf8.RuneError) }), "; ")
}
