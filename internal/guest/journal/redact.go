//go:build linux

package journal

import (
	"net/url"
	"strings"
)

// minRedacted is the minimum length of a redacted secret, in bytes. A shorter one may be an
// ordinary word; removing that everywhere would reveal it.
const minRedacted = 16

// Redact removes the config disk's secrets from text of other programs: a control server may repeat
// a refused key, and a database may repeat a statement that it cannot parse. The text arrives in
// lines, so each line of a secret is removed separately.
func Redact(secrets map[string]string, text string) string {
	for name, secret := range secrets {
		for line := range strings.Lines(secret) {
			line = strings.TrimSpace(line)
			for _, form := range []string{line, url.QueryEscape(line)} {
				if len(form) >= minRedacted {
					text = strings.ReplaceAll(text, form, "[secret "+name+"]")
				}
			}
		}
	}
	return text
}
