//go:build linux

package guest

import (
	"net/url"
	"strings"
)

// minRedacted is the length from which a secret is looked for, in bytes. A shorter one may be an
// ordinary word, and leaving that out everywhere would tell it rather than hide it.
const minRedacted = 16

// redact takes the config disk's secrets out of what others say: a control server that refuses a
// key may repeat it, and so may a database the statement that it could not make sense of. What they
// say comes in lines, and so does a secret.
func redact(secrets map[string]string, text string) string {
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
