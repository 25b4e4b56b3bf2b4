//go:build linux

package journal

import (
	"net/url"
	"strings"
)

// minRedacted is the length from which a secret is looked for, in bytes. A shorter one may be an
// ordinary word; removing that everywhere would reveal it rather than hide it.
const minRedacted = 16

// Redact removes the config disk's secrets from text that other programs wrote: a control server
// that refuses a key may repeat it, and a database may repeat a statement that it cannot parse. The
// text comes in lines, so each line of a secret is looked for.
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
