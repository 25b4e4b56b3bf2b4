package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/host/secrets"
)

// cliWith runs a command line with the given standard input.
func cliWith(in string, args ...string) (stdout, stderr string, status int) {
	var out, errOut bytes.Buffer
	status = execute(context.Background(), args, strings.NewReader(in), &out, &errOut)
	return out.String(), errOut.String(), status
}

// secretValue returns a stored secret, decrypted with the identity file at that path.
func secretValue(t *testing.T, vm, name, identity string) string {
	t.Helper()
	all, err := secrets.Open(filepath.Join(os.Getenv("SOV_CONFIG_DIR"), "secrets"), secrets.Keys{Identity: identity}).All(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	return string(all[name])
}

func TestSecretsFromStandardInput(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	for in, want := range map[string]string{
		"just one line\n":         "just one line",
		"a line of windows\r\n":   "a line of windows",
		"without newline":         "without newline",
		"more\nthan one line\n\n": "more\nthan one line\n",
		" spaces around \t\n":     " spaces around \t",
	} {
		if _, stderr, status := cliWith(in, "secrets", "set", "sql", "postgres"); status != exitDone {
			t.Fatalf("set %q: status %d: %s", in, status, stderr)
		}
		if got := secretValue(t, "sql", "postgres", ""); got != want {
			t.Errorf("of %q, %q is kept, want %q", in, got, want)
		}
	}
	if _, stderr, status := cliWith("kept as it is\n", "secrets", "set", "sql", "postgres", "--exact"); status != exitDone || secretValue(t, "sql", "postgres", "") != "kept as it is\n" {
		t.Errorf("--exact: status %d: %s", status, stderr)
	}
}

func TestSecretsListAndRm(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	recipe := filepath.Join(t.TempDir(), "mine.yaml")
	text := "name: mine\nbase: {image: alpine}\npostgres: {enabled: true, roles: [{name: app}]}\nsecrets: [{name: session, generate: true}, {name: smtp}]\n"
	if err := os.WriteFile(recipe, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// Only the names that the recipe uses are accepted.
	for name, want := range map[string]string{"role-app": "", "smtp": "", "tailscale": "must be one that the recipe mine uses: postgres, role-app, session, smtp", "smpt": `did you mean "smtp"?`, "data-key": ""} {
		_, stderr, status := cliWith("c4n4ry of the cage", "secrets", "set", recipe, name)
		if want == "" && status != exitDone || want != "" && (status != exitUsage || !strings.Contains(stderr, want)) {
			t.Errorf("set %s: status %d: %s", name, status, stderr)
		}
	}
	for name, want := range map[string]int{"session": exitDone, "smtp": exitUsage, "sesion": exitUsage} {
		if _, stderr, status := cliWith("", "secrets", "generate", recipe, name); status != want {
			t.Errorf("generate %s: status %d: %s", name, status, stderr)
		}
	}
	// Secrets that were stored for an earlier recipe are listed.
	store := secrets.Open(filepath.Join(os.Getenv("SOV_CONFIG_DIR"), "secrets"), secrets.Keys{})
	if err := store.Set("mine", "tailscale", []byte("c4n4ry of the cage")); err != nil {
		t.Fatal(err)
	}
	out, _, status := cliWith("", "secrets", "list", recipe)
	fields := strings.Fields(out)
	if status != exitDone || len(fields) == 0 || fields[0] != "postgres" || !strings.Contains(out, "not set") || !strings.Contains(out, "not used") || strings.Contains(out, "c4n4ry") {
		t.Errorf("list: status %d:\n%s", status, out)
	}
	out, _, _ = cliWith("", "secrets", "list", recipe, "--json")
	var list []secrets.Secret
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 6 || list[0].Set || !list[1].Set || list[1].Name != "role-app" || *list[4].Used || *list[5].Used {
		t.Errorf("list --json: %v\n%s", err, out)
	}
	if out, _, _ := cliWith("", "__complete", "secrets", "rm", recipe, ""); strings.Contains(out, "postgres") || !strings.Contains(out, "role-app") {
		t.Errorf("rm completes to\n%s", out)
	}
	if out, _, _ := cliWith("", "__complete", "secrets", "set", recipe, ""); !strings.Contains(out, "postgres") {
		t.Errorf("set completes to\n%s", out)
	}
	for _, want := range []string{"is forgotten", "was not set"} {
		if _, stderr, status := cliWith("", "secrets", "rm", recipe, "role-app"); status != exitDone || !strings.Contains(stderr, want) {
			t.Errorf("rm: status %d: %s", status, stderr)
		}
	}
}

// TestGeneratedSecret verifies that a generated password is strong, replaces a stored one only with
// --replace, and is shown by `sov secrets show`.
func TestGeneratedSecret(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	if _, stderr, status := cliWith("", "secrets", "show", "sql", "role-app"); status != exitFailed || !strings.Contains(stderr, "has no secret role-app") {
		t.Errorf("show what is not there: status %d: %s", status, stderr)
	}
	if _, stderr, status := cliWith("", "secrets", "generate", "sql", "role-app"); status != exitDone || !strings.Contains(stderr, "sov secrets show sql role-app") {
		t.Fatalf("generate: status %d: %s", status, stderr)
	}
	shown, _, status := cliWith("", "secrets", "show", "sql", "role-app")
	if want := secretValue(t, "sql", "role-app", ""); status != exitDone || shown != want+"\n" || len(want) < 20 {
		t.Errorf("show: status %d: %q, want %q", status, shown, want)
	}
	if _, stderr, status := cliWith("", "secrets", "generate", "sql", "role-app"); status != exitFailed || !strings.Contains(stderr, "--replace") {
		t.Errorf("generate again: status %d: %s", status, stderr)
	}
	if _, stderr, status := cliWith("", "secrets", "generate", "sql", "role-app", "--replace"); status != exitDone || secretValue(t, "sql", "role-app", "")+"\n" == shown {
		t.Errorf("generate --replace: status %d: %s", status, stderr)
	}
	if _, stderr, status := cliWith("", "secrets", "generate", "sql", "tailscale"); status != exitUsage {
		t.Errorf("generate an auth key: status %d: %s", status, stderr)
	}
}

// TestWeakPasswordIsRefused verifies that the error for a role's weak password names the command
// that generates one. Stored passwords are not checked.
func TestWeakPasswordIsRefused(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	for _, weak := range []string{"short\n", "postgrespostgres", "Password-2026"} {
		_, stderr, status := cliWith(weak, "secrets", "set", "sql", "postgres")
		if status != exitFailed || !strings.Contains(stderr, "sov secrets generate sql postgres") || secretValue(t, "sql", "postgres", "") != "" {
			t.Errorf("%q: status %d: %s", weak, status, stderr)
		}
	}
	if _, stderr, status := cliWith("short", "secrets", "set", "sql", "tailscale"); status != exitDone {
		t.Errorf("an auth key: status %d: %s", status, stderr)
	}
}

// TestIdentityOfTheEnvironment verifies that $SOV_IDENTITY starts encryption and is not required to
// store further secrets.
func TestIdentityOfTheEnvironment(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(identity, []byte(key.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOV_IDENTITY", identity)
	for _, value := range []string{"the first value", "a second value"} {
		if _, stderr, status := cliWith(value, "secrets", "set", "sql", "postgres"); status != exitDone {
			t.Fatalf("set: status %d: %s", status, stderr)
		}
		if out, _, _ := cliWith("", "secrets", "list", "sql"); !strings.Contains(out, "encrypted") {
			t.Errorf("list:\n%s", out)
		}
		if got := secretValue(t, "sql", "postgres", identity); got != value {
			t.Errorf("%q is kept, want %q", got, value)
		}
		t.Setenv("SOV_IDENTITY", identity+".gone")
	}
}

func TestRefusedSecrets(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"misspelt":       {[]string{"sql", "postgre"}, exitUsage, `did you mean "postgres"?`},
		"role":           {[]string{"sql", "role-A B"}, exitUsage, "must be one that the recipe sql uses"},
		"recipe":         {[]string{"./absent.yaml", "postgres"}, exitFailed, "read recipe"},
		"value":          {[]string{"sql", "postgres", "c4n4ry"}, exitUsage, "too many arguments"},
		"two keys":       {[]string{"sql", "postgres", "--identity", "x", "--passphrase"}, exitUsage, "exclude each other"},
		"no such key":    {[]string{"sql", "postgres", "--identity", "/absent"}, exitFailed, "/absent"},
		"empty secret":   {[]string{"sql", "tailscale"}, exitFailed, "is empty"},
		"unknown recipe": {[]string{"SQL", "postgres"}, exitFailed, "built-in recipe"},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, status := cliWith("", append([]string{"secrets", "set"}, tt.args...)...)
			if status != tt.status || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, "c4n4ry") {
				t.Errorf("status %d, want %d and %q: %s", status, tt.status, tt.want, stderr)
			}
		})
	}
}

// TestSecretsOfABuiltMachine verifies that the secrets of a local build come from its vm.json.
func TestSecretsOfABuiltMachine(t *testing.T) {
	t.Setenv("SOV_CONFIG_DIR", t.TempDir())
	t.Chdir(t.TempDir())
	spec := vmspec.Spec{
		Format: vmspec.Format, Name: "web", Arch: "arm64", Kernel: "kernel", MemoryMiB: 512, CPUs: 1,
		Disks:   []vmspec.Disk{{Role: vmspec.RoleRootfs, File: "rootfs.img"}},
		Network: vmspec.Network{TAP: "vm_web", Host: netip.MustParsePrefix("192.168.9.1/24"), Guest: netip.MustParsePrefix("192.168.9.2/24"), MTU: 1500, Routing: vmspec.Auto},
		Ready:   vmspec.Ready{Port: 1, TimeoutSeconds: 1},
		Secrets: []vmspec.Secret{{Name: "session", Generate: true}, {Name: "smtp"}},
	}
	text, err := spec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("out", "web", "arm64")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"vm.json": text, "manifest.json": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]int{"set web smtp": exitDone, "generate web session": exitDone, "set web smpt": exitUsage, "set " + dir + " smtp": exitDone, "set other smtp": exitUsage} {
		if _, stderr, status := cliWith("c4n4ry of the cage", append([]string{"secrets"}, strings.Fields(line)...)...); status != want {
			t.Errorf("%s: status %d: %s", line, status, stderr)
		}
	}
	if out, _, _ := cliWith("", "secrets", "list", "web"); !strings.HasPrefix(out, "session") {
		t.Errorf("list:\n%s", out)
	}
}
