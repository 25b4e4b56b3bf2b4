package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sovereign-sql/sov/stages/tailscale/tailscaletest"
)

// A localRun is `sov run` as it runs.
type localRun struct {
	t       *testing.T
	command *exec.Cmd
	stderr  bytes.Buffer
	URL     string `json:"url"`
}

// startRun starts `sov run --json` and waits until the machine is ready.
func startRun(t *testing.T, environment []string, args ...string) *localRun {
	t.Helper()
	r := &localRun{t: t, command: exec.Command(sovProgram, append([]string{"run", "--json"}, args...)...)}
	r.command.Env, r.command.Stderr = environment, &r.stderr
	stdout, err := r.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // a test that failed before end
		if r.command.ProcessState == nil {
			r.command.Process.Kill()
			r.command.Wait()
		}
	})
	if err := json.NewDecoder(bufio.NewReader(stdout)).Decode(r); err != nil {
		r.command.Wait()
		t.Fatalf("sov run: %v: %s", err, r.stderr.String())
	}
	return r
}

// end stops it as Ctrl-C does.
func (r *localRun) end() {
	r.t.Helper()
	if err := r.command.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	if err := r.command.Wait(); err != nil {
		r.t.Errorf("sov run: %v: %s", err, r.stderr.String())
	}
}

// login opens a session by pgx and asks.
func (r *localRun) login(user, password, sql string) (string, error) {
	r.t.Helper()
	config, err := pgconn.ParseConfig(r.URL)
	if err != nil {
		r.t.Fatal(err)
	}
	config.User, config.Password, config.Database = user, password, user
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

// psql opens a session by libpq; without a password it takes that of the file in the URL.
func (r *localRun) psql(user, password string) (string, error) {
	url := strings.Replace(r.URL, "//postgres@", "//"+user+"@", 1)
	command := exec.Command("psql", "--no-psqlrc", "--no-password", "-Atc", "select current_user", strings.Replace(url, "/postgres?", "/"+user+"?", 1))
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	if password != "" {
		command.Env = append(command.Env, "PGPASSWORD="+password)
	}
	out, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// TestSecrets takes passwords from `sov secrets set` to the sessions that they open, and searches everything that was
// written or started on the way for them.
func TestSecrets(t *testing.T) {
	c := newCanary()
	passwords := map[string]string{
		"postgres": c.text + `: 'of' the "user" \`,
		"app":      " '\"\\ $HOME `id` %s \t\r\n\nünïcödé 🔑 " + c.text + "\n",
		"big":      strings.Repeat("x", 1024-len(c.text)) + c.text,
	}
	dir := t.TempDir()
	recipe := filepath.Join(dir, "sql.yaml")
	text, err := os.ReadFile("../../assets/sql.yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "settings: {}", "roles: [{name: app}, {name: big}]", 1)
	if err := os.WriteFile(recipe, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(dir, "key.txt")
	if err := os.WriteFile(identity, []byte(key.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	runtime := t.TempDir()
	environment := append(os.Environ(), "SOV_CONFIG_DIR="+filepath.Join(dir, "config"), "SOV_IDENTITY="+identity, "XDG_RUNTIME_DIR="+runtime)
	set := func(name, value string) {
		t.Helper()
		o := sov(t, func(c *exec.Cmd) { c.Env, c.Stdin = environment, strings.NewReader(value) }, "secrets", "set", recipe, name, "--exact")
		if o.status != 0 {
			t.Fatalf("set %s: %v", name, o)
		}
	}
	begin := time.Now().Add(-time.Second) // file systems round
	set("postgres", passwords["postgres"])
	set("role-app", passwords["app"])
	set("role-big", passwords["big"])
	set("tailscale", c.text)

	built := sov(t, func(c *exec.Cmd) { c.Env, c.Dir = environment, shared }, append([]string{"build", recipe,
		"--lock", filepath.Join(shared, "arm64.lock"), "-o", filepath.Join(dir, "out")}, fromMirror()...)...)
	if built.status != 0 {
		t.Fatal(built)
	}
	state := filepath.Join(dir, "state")
	args := []string{recipe, "-o", filepath.Join(dir, "out"), "--state", state}
	r := startRun(t, environment, args...)
	c.wantNowhere(t, begin, dir) // while it runs, too
	for user, password := range passwords {
		given := password
		if user == "postgres" {
			given = "" // psql finds it in the file
		}
		if got, err := r.psql(user, given); err != nil || got != user {
			t.Errorf("psql as %s: %q, %v", user, got, err)
		}
		if got, err := r.login(user, password, "select current_user"); err != nil || got != user {
			t.Errorf("pgx as %s: %q, %v", user, got, err)
		}
		if _, err := r.login(user, password+"x", "select 1"); err == nil {
			t.Errorf("a wrong password opens a session of %s", user)
		}
	}
	if got, err := r.login("postgres", passwords["postgres"], `select count(*) from pg_ls_dir('/proc') p
		where p ~ '^[0-9]+$' and position('`+c.text[1:]+`'::bytea in pg_read_binary_file('/proc/' || p || '/cmdline', 0, 65536, true)) > 0`); err != nil || got != "0" {
		t.Errorf("%s processes of the guest have a secret among their arguments (%v)", got, err)
	}
	const verifier = "select rolpassword from pg_authid where rolname = 'big'"
	before, err := r.login("postgres", passwords["postgres"], verifier)
	if err != nil || !strings.HasPrefix(before, "SCRAM-SHA-256$") {
		t.Errorf("stored password: %q, %v", before, err)
	}
	r.end()

	// A changed secret changes its password, and no other; a superuser's password with a line break has no file.
	old := passwords["app"]
	passwords["app"], passwords["postgres"] = c.text+" another", c.text+"\nof two lines"
	set("role-app", passwords["app"])
	set("postgres", passwords["postgres"])
	r = startRun(t, environment, args...)
	if got, err := r.login("app", passwords["app"], "select current_user"); err != nil || got != "app" {
		t.Errorf("with the changed password: %q, %v", got, err)
	}
	if _, err := r.login("app", old, "select 1"); err == nil {
		t.Error("the old password opens a session")
	}
	if got, err := r.login("postgres", passwords["postgres"], verifier); err != nil || got != before {
		t.Errorf("the stored password of another is %q, was %q (%v)", got, before, err)
	}
	if got, err := r.psql("postgres", passwords["postgres"]); err != nil || got != "postgres" {
		t.Errorf("psql with a password of two lines: %q, %v", got, err)
	}
	r.end()
	queried := sov(t, func(c *exec.Cmd) { c.Env = environment }, append([]string{"run", "--query", "select 'asked'"}, args...)...)
	if queried.status != 0 || queried.stdout != "asked\n" {
		t.Errorf("--query: %v", queried)
	}
	c.wantNowhere(t, begin, dir, runtime, filepath.Join(shared, "arm64.lock"), tailscaletest.CacheDir(t))
	for _, o := range []outcome{built, queried} {
		if c.in([]byte(o.stdout + o.stderr)) {
			t.Errorf("a secret is shown: %v", o)
		}
	}
}
