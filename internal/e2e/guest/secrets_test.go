package guest

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

	"github.com/sovereign-sql/sov/internal/testkit/canary"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/guesttest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
	"github.com/sovereign-sql/sov/internal/testkit/tailscaletest"
)

// A localRun is a running `sov run`.
type localRun struct {
	t       *testing.T
	command *exec.Cmd
	stderr  bytes.Buffer
	URL     string `json:"url"`
}

// startRun starts `sov run --json` and waits until the machine is ready.
func startRun(t *testing.T, environment []string, args ...string) *localRun {
	t.Helper()
	r := &localRun{t: t, command: exec.Command(sovtest.Program, append([]string{"run", "--json"}, args...)...)}
	r.command.Env, r.command.Stderr = environment, &r.stderr
	stdout, err := r.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := childtest.Start(r.command, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // if a test has failed before end
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

// end stops the run as Ctrl-C does.
func (r *localRun) end() {
	r.t.Helper()
	if err := r.command.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	if err := r.command.Wait(); err != nil {
		r.t.Errorf("sov run: %v: %s", err, r.stderr.String())
	}
}

// login opens a session with pgx and returns the result of a query.
func (r *localRun) login(user, password, sql string) (string, error) {
	r.t.Helper()
	config, err := pgconn.ParseConfig(r.URL)
	if err != nil {
		r.t.Fatal(err)
	}
	config.User, config.Password, config.Database = user, password, user
	ctx, cancel := context.WithTimeout(r.t.Context(), sovtest.WaitLimit)
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

// psql opens a session with libpq. Without a password, it uses the password file in the URL.
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

// A keeper is a user with a recipe for two roles, an age identity and secrets.
type keeper struct {
	t           *testing.T
	dir         string // recipe, configuration, identity, artifact and state
	runtime     string // for files that end with a run
	recipe      string
	environment []string
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	dir, runtime := t.TempDir(), t.TempDir()
	identity := filepath.Join(dir, "key.txt")
	k := &keeper{t, dir, runtime, filepath.Join(dir, "sql.yaml"), append(os.Environ(),
		"SOV_CONFIG_DIR="+filepath.Join(dir, "config"), "SOV_IDENTITY="+identity, "XDG_RUNTIME_DIR="+runtime)}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	withRoles := string(sovtest.SQL("postgres: {roles: [{name: big}]}"))
	for path, text := range map[string]string{k.recipe: withRoles, identity: key.String()} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// sov runs the program as this user. The command must succeed.
func (k *keeper) sov(stdin string, args ...string) sovtest.Outcome {
	k.t.Helper()
	o := sovtest.Run(k.t, func(c *exec.Cmd) { c.Env, c.Dir, c.Stdin = k.environment, sovtest.Shared, strings.NewReader(stdin) }, args...)
	if o.Status != 0 {
		k.t.Fatalf("sov %s: %v", strings.Join(args, " "), o)
	}
	return o
}

func (k *keeper) set(name, value string) {
	k.t.Helper()
	k.sov(value, "secrets", "set", k.recipe, name, "--exact")
}

// artifact returns the arguments with which sov run finds the keeper's artifact.
func (k *keeper) artifact() []string {
	return []string{k.recipe, "-o", filepath.Join(k.dir, "out"), "--state", filepath.Join(k.dir, "state")}
}

// wantSessions logs in with each driver, with the right password and with a wrong one.
func (r *localRun) wantSessions(passwords map[string]string) {
	r.t.Helper()
	for user, password := range passwords {
		given := password
		if user == "postgres" && !strings.Contains(password, "\n") {
			given = "" // psql uses the password file
		}
		if got, err := r.psql(user, given); err != nil || got != user {
			r.t.Errorf("psql as %s: %q, %v", user, got, err)
		}
		if got, err := r.login(user, password, "select current_user"); err != nil || got != user {
			r.t.Errorf("pgx as %s: %q, %v", user, got, err)
		}
		if _, err := r.login(user, password+"x", "select 1"); err == nil {
			r.t.Errorf("a wrong password opens a session of %s", user)
		}
	}
}

// superuser runs a query as the superuser and returns its single value.
func (r *localRun) superuser(password, sql string) string {
	r.t.Helper()
	value, err := r.login("postgres", password, sql)
	if err != nil {
		r.t.Errorf("%s: %v", sql, err)
	}
	return value
}

// TestSecrets sets passwords with `sov secrets set` and opens sessions with them. It searches every
// written file and every started process for them.
func TestSecrets(t *testing.T) {
	c := canary.New()
	passwords := map[string]string{
		"postgres": c.Text + `: 'of' the "user" \`,
		"app":      " '\"\\ $HOME `id` %s \t\r\n\nünïcödé 🔑 " + c.Text + "\n",
		"big":      strings.Repeat("x", 1024-len(c.Text)) + c.Text,
	}
	begin := time.Now().Add(-time.Second) // file systems round times
	k := newKeeper(t)
	if err := os.Rename(guesttest.Seeded(t, "arm64"), filepath.Join(k.dir, "state")); err != nil {
		t.Fatal(err)
	}
	k.set("postgres", passwords["postgres"])
	k.set("role-app", passwords["app"])
	k.set("role-big", passwords["big"])
	k.set("tailscale", c.Text)
	lock := sovtest.SharedLock("arm64")
	built := k.sov("", append([]string{"build", k.recipe, "--lock", lock, "-o", filepath.Join(k.dir, "out")}, sovtest.FromMirror()...)...)

	r := startRun(t, k.environment, k.artifact()...)
	c.WantNowhere(t, begin, k.dir) // also while it runs
	r.wantSessions(passwords)
	if got := r.superuser(passwords["postgres"], `select count(*) from pg_ls_dir('/proc') p
		where p ~ '^[0-9]+$' and position('`+c.Text[1:]+`'::bytea in pg_read_binary_file('/proc/' || p || '/cmdline', 0, 65536, true)) > 0`); got != "0" {
		t.Errorf("%s processes of the guest have a secret among their arguments", got)
	}
	const verifier = "select rolpassword from pg_authid where rolname = 'big'"
	before := r.superuser(passwords["postgres"], verifier)
	if !strings.HasPrefix(before, "SCRAM-SHA-256$") {
		t.Errorf("stored password: %q", before)
	}
	r.end()

	// A changed secret changes only its password. A superuser's password with a line break has no
	// password file.
	old := passwords["app"]
	passwords["app"], passwords["postgres"] = c.Text+" another", c.Text+"\nof two lines"
	k.set("role-app", passwords["app"])
	k.set("postgres", passwords["postgres"])
	r = startRun(t, k.environment, k.artifact()...)
	r.wantSessions(passwords)
	if _, err := r.login("app", old, "select 1"); err == nil {
		t.Error("the old password opens a session")
	}
	if got := r.superuser(passwords["postgres"], verifier); got != before {
		t.Errorf("the stored password of another is %q, was %q", got, before)
	}
	r.end()
	queried := k.sov("", append([]string{"run", "--query", "select 'asked'"}, k.artifact()...)...)
	if queried.Stdout != "asked\n" {
		t.Errorf("--query: %v", queried)
	}
	c.WantNowhere(t, begin, k.dir, k.runtime, lock, tailscaletest.CacheDir(t))
	for _, o := range []sovtest.Outcome{built, queried} {
		if c.In([]byte(o.Stdout + o.Stderr)) {
			t.Errorf("a secret is shown: %v", o)
		}
	}
}
