package secrets

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

func TestWeakPasswords(t *testing.T) {
	for _, weak := range []string{
		"", "short", "Tr0ub4dor&3", "aaaaaaaaaaaaaaaa", "abababababab", "123456789012", "abcdefghijklmnop", "qwertyuiop123456", "xkqxkqxkqxkq",
		"Password1234", "password-2026!", "P@ssw0rdP@ssw0rd", "postgrespostgres", "sql-database-1", "hunter-machine", "MachineHunter99",
	} {
		if err := CheckPassword("hunter", "role-machine", weak); err == nil || !strings.Contains(err.Error(), "sov secrets generate hunter role-machine") {
			t.Errorf("%q is taken: %v", weak, err)
		}
	}
	strong := []string{"c4n4ry of the app", "correct horse battery staple", "日本語のパスワードは長いほど良い", strings.Repeat("x", 1000) + "kq7!mzt4wv"}
	for range 1000 {
		strong = append(strong, rand.Text())
	}
	for _, strong := range strong {
		if err := CheckPassword("hunter", "postgres", strong); err != nil {
			t.Errorf("%q: %v", strong, err)
		}
	}
	if err := CheckPassword("hunter", "tailscale", "short"); err != nil {
		t.Errorf("an auth key, which the tailnet makes: %v", err)
	}
	kept := map[string]string{"postgres": "short", "role-app": rand.Text()}
	logins := []vmspec.Login{vmspec.Superuser, {Role: "app", Secret: "role-app"}, {Role: "none", Secret: "role-none"}}
	found := Weak("hunter", logins, func(secret string) (string, bool) { v, ok := kept[secret]; return v, ok })
	if len(found) != 1 || !strings.Contains(found[0], "role postgres has fewer than 12 characters: `sov secrets generate hunter postgres --replace`") {
		t.Errorf("of what is kept: %q", found)
	}
}
