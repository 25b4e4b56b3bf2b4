//go:build linux

package boot

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
)

// TestSecretsOfServices verifies that a service reads its secrets in files and environment, that
// another service of the same user cannot read them, that no log or argument contains them, and
// that a missing secret is reported.
func TestSecretsOfServices(t *testing.T) {
	const password, key = "the-password-of-a-role", "the-key-of-sessions"
	web := shell("web", `printf '%s|%s|%s' "$(cat /run/secrets/web/db)" "$(cat /run/keys/session)" "$KEY" | sha256sum; exec sleep 1000`)
	web.User = "nobody"
	web.Secrets = []guestspec.SecretFile{{Secret: "role-app", Path: "/run/secrets/web/db"}, {Secret: "session", Path: "/run/keys/session", Mode: "0440"}}
	web.SecretEnv = map[string]string{"KEY": "session"}
	web.Prepare = []guestspec.Step{{Command: []string{"/bin/sh", "-c", `echo ${#KEY}; stat -c '%n %a %U' /run/secrets/web/db /run/keys/session`}}}
	thief := shell("thief", `echo "stolen: $(cat /run/secrets/web/db /run/keys/session | wc -c)$KEY"; echo x >/run/secrets/web/db; exec sleep 1000`)
	thief.User, thief.After = "nobody", []string{"web"}
	poor := sleeper("poor")
	poor.Secrets = []guestspec.SecretFile{{Secret: "smtp", Path: "/run/secrets/poor/smtp"}}
	b := newBox(t, web, thief, poor)
	b.config.Secrets = map[string]string{"role-app": password, "session": key}
	b.write(t, "patterns", password+"\n"+key+"\n")
	v := b.boot(t)
	v.waitLine("out web: /run/secrets/web/db 400 nobody")
	v.waitLine("out web: /run/keys/session 440 nobody")
	v.waitLine("out web: " + strconv.Itoa(len(key)))
	v.waitLine(fmt.Sprintf("out web: %x", sha256.Sum256([]byte(password+"|"+key+"|"+key))))
	v.waitLine("out thief: stolen: 0\n")
	v.waitService("poor", "failed", func(s guestapi.Service) bool {
		return s.State == guestapi.StateFailed && strings.Contains(s.Reason, "its secret smtp is not set: `sov secrets set`")
	})
	for where, want := range map[string]string{"/run": "/run/keys/session\n/run/secrets/web/db", "/proc/*/cmdline": "", "/data /tmp /etc/sov": ""} {
		if out, _ := v.run("/bin/sh", "-c", "grep -rlaf /patterns "+where+" | sort"); out != want {
			t.Errorf("secrets in %s: %q, want %q", where, out, want)
		}
	}
	if log := v.text(); strings.Contains(log, password) || strings.Contains(log, key) {
		t.Error("a secret is in the log")
	}
	v.shutDown()
}
