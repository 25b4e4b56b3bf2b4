package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/localvm"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/childtest"
	"github.com/sovereign-sql/sov/internal/testkit/mirror/mirrortest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/postgrestest"
	"github.com/sovereign-sql/sov/internal/testkit/registrytest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// patience limits one command.
const patience = 15 * time.Minute

// needs maps the needs of a block to functions. Each provides its need unless it is already
// provided.
var needs map[string]func(*reader) error

func init() {
	needs = map[string]func(*reader) error{
		// sov, which uses the test's own image and packages, in the folder that all blocks of the
		// document share.
		"sov": func(*reader) error { return nil },
		// The sources of sov as in a new clone, in the folder of the document.
		"sources": (*reader).checkout,
		// The built machine out/sql/arm64, its lock, and the same machine in other/arm64.
		"built": (*reader).build,
		// An empty cache instead of this computer's.
		"own cache": (*reader).ownCache,
		// A registry, which all documents share.
		"registry": func(r *reader) error { r.registry(); return nil },
		// The built machine, installed and running on a rooted phone that is connected to adb.
		"phone": func(r *reader) error { return r.attach(r.phone()) },
		// Another phone with a light machine, for commands that need no database and no shell in
		// the guest. A light machine has only a network and an endpoint, and starts at once.
		"light phone": func(r *reader) error { return r.attach(r.lightPhone()) },
		// An older version of the machine, marked as good, in the other slot of the phone that an
		// earlier need has provided.
		"two versions": (*reader).twoVersions,
		// A root shell on the phone in /data/sovereign for the block's commands. Without an earlier
		// need for a phone, it is a phone with a light machine and without sov.
		"phone shell": (*reader).openShell,
		// A rooted phone connected to adb, with the machines of the group in ./home.yaml running as
		// light machines.
		"group": (*reader).attachHome,
		// An empty PostgreSQL server on this computer, which psql and similar programs find through
		// the environment.
		"postgres": (*reader).startPostgres,
		// Files of pg_dump: dump.sql, and shop.dump in the custom format.
		"dump": (*reader).dump,
	}
}

// substitutions replace the placeholders of documents by values for these tests.
var substitutions = []struct {
	placeholder *regexp.Regexp
	here        func(*reader) string
}{
	{regexp.MustCompile(`REGISTRY|registry\.example(\.com)?`), func(r *reader) string { return r.registry().Repository("docs") }},
	{regexp.MustCompile(`\bREMOTE\b`), func(r *reader) string { return r.registry().Repository("docs/cache") }},
	{regexp.MustCompile(`ssh:(root|user)@(phone|host)|R58M12345|\b(OLD|NEW)\b`), (*reader).serial},
	{regexp.MustCompile(`\bpostgresql17\b`), func(*reader) string { return "postgresql15" }},
	{regexp.MustCompile(`\bicu-libs\b`), func(*reader) string { return "e2fsprogs" }},
	{regexp.MustCompile(`\bpostgresql-pgvector\b`), func(*reader) string { return "postgresql15-contrib" }},
	{regexp.MustCompile(`postgres:17-alpine`), func(*reader) string { return sovtest.Sources.PostgresImage() }},
	{regexp.MustCompile(`127\.0\.0\.1:5080`), (*reader).freeAddress},
	{regexp.MustCompile(`\b5433\b`), func(r *reader) string { _, port, _ := net.SplitHostPort(r.freeAddress()); return port }},
	{regexp.MustCompile(`postgresql://[^' ]+`), func(r *reader) string { return r.url }},
	// The command prompts on a terminal, which the tests do not have.
	{regexp.MustCompile(`\bsov remove \S+ --data\b|\bsov restore \S+ \S+`), nil},
}

// typed is the input that a user would type at a command's prompt.
var typed = []struct {
	command *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`^sov secrets set|^read `), "correct horse\n"},
	{regexp.MustCompile(`^sov psql`), "select 1;\n"},
	{regexp.MustCompile(`^psql|^pg_restore`), "correct horse\nselect 1;\n"},
	{regexp.MustCompile(`^sov shell`), "exit\n"},
}

// foreground lists commands that run until Ctrl-C. The test interrupts a command when its output
// matches ready, or, with later, at the end of the block, because the commands after it use it.
var foreground = []struct {
	command, unless, ready *regexp.Regexp
	later                  bool
}{
	{regexp.MustCompile(`^sov run\b`), regexp.MustCompile(`--(query|detach|systemd)\b`), regexp.MustCompile(`postgresql://`), false},
	{regexp.MustCompile(`^sov forward\b`), nil, regexp.MustCompile(`postgresql://`), true},
	{regexp.MustCompile(`^sov up\b.* --forward`), nil, regexp.MustCompile(`postgresql://`), true},
	{regexp.MustCompile(`^(sov|sov-runner) logs\b.* (-f|--follow)\b`), nil, regexp.MustCompile(`.\n`), false},
	{regexp.MustCompile(`^sov status\b.* (-w|--watch)\b`), nil, regexp.MustCompile(`.\n`), false},
	{regexp.MustCompile(`^sov-mirror\b`), nil, regexp.MustCompile(`Serving until Ctrl-C`), true},
}

// computer is shared by the readers of all documents. Its functions create what they return on the
// first call.
type computer struct {
	bin        string // in PATH
	state      string // of `sov run`; only the first start of a machine is slow
	registry   func() *registrytest.Registry
	phone      func() *phonetest.Pushed
	lightPhone func() *phonetest.Pushed
	light      func() *phonetest.Handset
	home       func() *phonetest.Home
	built      func() (string, error)
}

// A reader types the commands of one document, in a separate folder and home.
type reader struct {
	*computer
	t   *testing.T
	dir string
	env []string
	url string // that the last command has printed

	// Of the current block:
	attached *phonetest.Pushed  // the phone at adb, or nil
	shell    *phonetest.Handset // in which the commands run, or nil
	address  string             // free address, or empty
	running  []*running
}

func newComputer(t *testing.T) *computer {
	c := &computer{bin: t.TempDir(), state: t.TempDir()}
	c.registry = sync.OnceValue(func() *registrytest.Registry { return registrytest.Start(t) })
	c.phone = sync.OnceValue(func() *phonetest.Pushed { return phonetest.NewPushed(t, androidtest.NewADBServer(t)) })
	c.lightPhone = sync.OnceValue(func() *phonetest.Pushed {
		build := androidtest.DefaultBuild(androidtest.DefaultRelease())
		build.Light = true
		return phonetest.NewPushedOn(t, androidtest.Options{Build: build}, androidtest.NewADBServer(t))
	})
	c.light = sync.OnceValue(func() *phonetest.Handset {
		return phonetest.NewLight(t, vmspec.Scoped, lightguest.Script{}, `{}`)
	})
	c.home = sync.OnceValue(func() *phonetest.Home {
		h := phonetest.NewHome(t)
		h.Add("sql", "home")
		h.Add("forge", "home", "sql")
		h.Add("vault", "home", "sql")
		return h
	})
	c.built = sync.OnceValues(func() (string, error) {
		dir := t.TempDir()
		r := c.reader(t)
		r.dir = dir
		_, err := r.bash("sov build sql", nil)
		return dir, err
	})
	t.Cleanup(c.stopMachines)
	if err := os.Symlink(sovtest.Program, filepath.Join(c.bin, "sov")); err != nil {
		t.Fatal(err)
	}
	// A password manager.
	const pass = "#!/bin/sh\necho tskey-auth-none\n"
	if err := os.WriteFile(filepath.Join(c.bin, "pass"), []byte(pass), 0o755); err != nil {
		t.Fatal(err)
	}
	mirror, err := sovMirror()
	if err == nil {
		err = os.Symlink(mirror, filepath.Join(c.bin, "sov-mirror"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sovMirror compiles sov-mirror once and returns its path.
var sovMirror = sync.OnceValues(func() (string, error) {
	path := filepath.Join(sovtest.Shared, "sov-mirror")
	compile := exec.Command("go", "build", "-o", path, "./cmd/sov-mirror")
	compile.Dir = sovtest.Root()
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile sov-mirror: %w: %s", err, out)
	}
	return path, nil
})

// stopMachines stops the machines that documents have left running in the background.
func (c *computer) stopMachines() {
	list, err := localvm.List(c.state)
	for _, m := range list {
		err = errors.Join(err, m.Stop(context.Background(), time.Minute))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stop machines:", err)
	}
}

func (c *computer) reader(t *testing.T) *reader {
	t.Helper()
	r := &reader{computer: c, t: t, dir: t.TempDir()}
	home := t.TempDir()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); {
		case strings.HasPrefix(name, "SOV_") && name != "SOV_CACHE_DIR", strings.HasPrefix(name, "XDG_"), strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "MAKE"), name == "MFLAGS", name == "ANDROID_SERIAL":
		default:
			r.env = append(r.env, v)
		}
	}
	goEnv, err := exec.Command("go", "env", "GOPATH", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range strings.Fields(string(goEnv)) {
		r.env = append(r.env, []string{"GOPATH", "GOCACHE", "GOMODCACHE"}[i]+"="+value)
	}
	identity, err := age.GenerateX25519Identity()
	if err == nil {
		err = os.MkdirAll(filepath.Join(home, ".config/age"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(home, ".config/age/key.txt"), []byte(identity.String()+"\n"), 0o600)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(home, ".ssh"), 0o700)
	}
	if err == nil {
		err = exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(home, ".ssh/id_ed25519")).Run()
	}
	if err != nil {
		t.Fatal(err)
	}
	r.env = append(r.env, "SOV_IMAGE="+sovtest.Sources.Image(), "SOV_REPOSITORIES="+strings.Join(sovtest.Sources.Repositories(), " "),
		"HOME="+home, "SOV_ALPINE_FIXTURES="+mirrortest.Fixtures(), "SOV_STATE_DIR="+c.state, "XDG_CACHE_HOME="+cache, "PATH="+c.bin+":"+os.Getenv("PATH"), "LC_ALL=C.UTF-8")
	return r
}

// setenv sets a variable for the rest of the document.
func (r *reader) setenv(name, value string) {
	r.env = append(r.env, name+"="+value)
}

// build links the files of the built machine into the reader's folder. Links are safe, because sov
// replaces an artifact as a whole.
func (r *reader) build() error {
	from, err := r.built()
	if err != nil {
		return err
	}
	const script = `[ -e out/sql/arm64 ] || { mkdir -p out/sql && cp -al "$1/out/sql/arm64" out/sql/ && cp -n "$1/sov.lock" .; }
		[ -e other ] || { mkdir -p other && cp -al "$1/out/sql/arm64" other/; }`
	command := exec.Command("bash", "-euc", script, "bash", from)
	command.Dir = r.dir
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("copy the built machine: %w: %s", err, out)
	}
	return nil
}

// checkout copies the sources once for each document.
func (r *reader) checkout() error {
	if _, err := os.Stat(filepath.Join(r.dir, "go.mod")); err == nil {
		return nil
	}
	r.dir, _ = sovtest.Checkout(r.t)
	r.setenv("GOFLAGS", "-trimpath") // as in make build: Go reuses packages compiled in another folder
	return nil
}

func (r *reader) ownCache() error {
	r.setenv("SOV_CACHE_DIR", filepath.Join(r.dir, "cache"))
	return nil
}

// attachHome attaches the phone with a group, and writes the group's file.
func (r *reader) attachHome() error {
	h := r.home()
	h.GroupFile(r.dir)
	r.setenv("PATH", filepath.Dir(h.Server.Program())+":"+r.bin+":"+os.Getenv("PATH"))
	r.setenv("ANDROID_SERIAL", h.ADB.Serial())
	for _, name := range []string{"sql", "forge", "vault"} {
		h.Do("up", name)
	}
	return nil
}

// attach attaches a phone, on which the machine runs with the reader's password.
func (r *reader) attach(p *phonetest.Pushed) error {
	if err := r.build(); err != nil {
		return err
	}
	r.attached = p
	r.setenv("PATH", filepath.Dir(p.Server.Program())+":"+r.bin+":"+os.Getenv("PATH"))
	r.setenv("ANDROID_SERIAL", p.ADB.Serial())
	// An earlier command may have removed or replaced the settings. On this phone, crosvm runs an
	// arm64 machine on any computer.
	if err := os.MkdirAll(filepath.Dir(p.File(phonepath.Default.Settings())), 0o755); err != nil {
		return err
	}
	p.Put(phonepath.Default.Settings(), `{"arch": "arm64"}`, 0o644)
	settings := filepath.Join(r.dir, "settings.json")
	if err := os.WriteFile(settings, []byte(`{"arch": "arm64", "vms": {"sql": {"memory_mib": 1024}}}`), 0o644); err != nil {
		return err
	}
	const script = `sov secrets list sql --json | jq -e 'any(.name == "role-app" and .set)' >/dev/null && [ "$(sov status sql --json | jq -r .phase)" = ready ] && exit
		for name in postgres role-app; do sov secrets set sql "$name" <<<'correct horse'; done
		sov push sql --start`
	_, err := r.bash(script, nil)
	return err
}

func (r *reader) openShell() error {
	if r.attached != nil {
		r.shell = r.attached.Handset
		return nil
	}
	r.shell = r.light()
	if o := r.shell.Runner("up", "sql"); o.Status != 0 {
		return fmt.Errorf("start the light machine: %v", o)
	}
	return nil
}

func (r *reader) twoVersions() error {
	const script = `[ "$(sov status sql --json | jq '[.slots[] | select(.state == "good")] | length')" = 2 ] && exit
		sov push "$OLDER" --start && sov push sql --start`
	r.setenv("OLDER", sovtest.ChangedSetting(r.t))
	_, err := r.bash(script, nil)
	return err
}

func (r *reader) startPostgres() error {
	server := postgrestest.Start(r.t, 5432, "listen_addresses = ''\n", "", nil)
	r.setenv("PGHOST", filepath.Dir(server.SocketFile()))
	r.setenv("PGUSER", "postgres")
	return nil
}

func (r *reader) dump() error {
	env := r.env
	defer func() { r.env = env }()
	if err := r.startPostgres(); err != nil {
		return err
	}
	_, err := r.bash("psql -c 'create table journey (stop text)' && pg_dump -f dump.sql && pg_dump -Fc -f shop.dump", nil)
	return err
}

// serial returns the serial number of the attached phone.
func (r *reader) serial() string {
	if r.attached == nil {
		return "PHONE, which the block does not need"
	}
	return r.attached.ADB.Serial()
}

// freeAddress returns the address on which a command of the block may listen.
func (r *reader) freeAddress() string {
	if r.address == "" {
		listen, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			r.t.Fatal(err)
		}
		defer listen.Close()
		r.address = listen.Addr().String()
	}
	return r.address
}

// here replaces the placeholders in a document's text.
func (r *reader) here(text string) string {
	for _, s := range substitutions {
		text = s.placeholder.ReplaceAllStringFunc(text, func(found string) string {
			if s.here == nil {
				return found + " --yes"
			}
			return s.here(r)
		})
	}
	return text
}

// read runs a block's commands and returns the first difference from the document.
func (r *reader) read(b block) (err error) {
	r.attached, r.shell, r.address = nil, nil, ""
	env := r.env
	defer func() {
		err = errors.Join(err, r.interrupt(true))
		r.env = env
	}()
	if b.run {
		for _, need := range b.needs {
			if err := needs[need](r); err != nil {
				return fmt.Errorf("%s: provide %q: %w", b.at, need, err)
			}
		}
	}
	state := filepath.Join(r.t.TempDir(), "state")
	for _, c := range b.commands {
		start := time.Now()
		if err := r.command(b, c, state); err != nil {
			return fmt.Errorf("%s: %s\n%w\nCorrect the document or the program; a command that cannot run in this test is excepted in the comment before its block, with the reason (see the documentation of internal/e2e/docs)",
				c.at, c.text, err)
		}
		if took := time.Since(start); took > time.Second {
			r.t.Logf("%5.1f s %s: %s", took.Seconds(), c.at, c.text)
		}
	}
	return nil
}

// command runs one command of a block.
func (r *reader) command(b block, c command, state string) error {
	for text := range b.except {
		if strings.Contains(c.text, text) {
			return r.flags(c.text)
		}
	}
	if !b.run {
		return r.flags(c.text)
	}
	if err := r.interrupt(false); err != nil {
		return err
	}
	right := []int{0}
	for text, statuses := range b.status {
		if strings.Contains(c.text, text) {
			right = statuses
		}
	}
	out, err := r.bash(r.here(c.text), &state)
	var exit *exec.ExitError
	if errors.As(err, &exit) && slices.Contains(right, exit.ExitCode()) {
		err = nil
	} else if err == nil && !slices.Contains(right, 0) {
		err = fmt.Errorf("exit status 0, not %v: %s", right, out)
	}
	if err != nil || c.output == nil {
		return err
	}
	return compare(c.output, strings.Split(strings.TrimRight(out, "\n"), "\n"))
}

var (
	notAnArgument = regexp.MustCompile(`\s(#|>|>>|\||&&|\|\||;|--|<)\s.*`)
	sovCommand    = regexp.MustCompile(`^sov(-mirror)? `)
)

// flags checks that sov accepts the verb and flags of a command that is not run.
func (r *reader) flags(text string) error {
	text, _, _ = strings.Cut(text, "   ")
	text = notAnArgument.ReplaceAllString(text, "")
	if !sovCommand.MatchString(text) {
		return nil
	}
	_, err := r.bash(strings.TrimSuffix(text, `\`)+" --help", nil)
	return err
}

// A running command is in the foreground and ends by Ctrl-C.
type running struct {
	text  string
	later bool
	*exec.Cmd
	out *output
}

// interrupt presses Ctrl-C in every running command, or without all only in those that no later
// command uses. It waits until they end.
func (r *reader) interrupt(all bool) (err error) {
	left := r.running[:0]
	for _, c := range r.running {
		if c.later && !all {
			left = append(left, c)
			continue
		}
		syscall.Kill(-c.Process.Pid, syscall.SIGINT)
		if e := c.Wait(); e != nil {
			err = errors.Join(err, fmt.Errorf("%s, after Ctrl-C: %w: %s", c.text, e, c.out))
		}
	}
	r.running = left
	return err
}

var anyURL = regexp.MustCompile(`postgresql://[^\s"']+`)

// bash runs a command and returns its output. state, if not nil, is a file with the variables and
// the folder of the block's earlier commands.
func (r *reader) bash(text string, state *string) (string, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	c := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", text)
	if state != nil {
		const script = `set -a; [ ! -e "$1" ] || { . "$1"; cd "$PWD"; }; trap 'export -p >"$1"' EXIT; eval "$2"`
		c = exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", script, "bash", *state, text)
	}
	if r.shell != nil && state != nil {
		c = r.shell.Command(ctx, "/usr/bin/sh", "-c", "cd /data/sovereign\n"+text)
		c.Env = append(c.Env, "PATH=/data/sovereign/bin:/system/bin:/usr/sbin:/usr/bin", "HOME=/", "LANG=C")
	} else {
		c.Dir, c.Env = r.dir, r.env
	}
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Setsid = true // without a terminal, no program can prompt the user who runs the test
	c.WaitDelay = 10 * time.Second
	out := &output{grown: make(chan struct{}, 1)}
	c.Stdout, c.Stderr = out, out
	for _, t := range typed {
		if t.command.MatchString(text) {
			c.Stdin = strings.NewReader(t.text)
		}
	}
	for _, f := range foreground {
		if state == nil || !f.command.MatchString(text) || f.unless != nil && f.unless.MatchString(text) {
			continue
		}
		if err := childtest.Start(c, nil); err != nil {
			cancel()
			return "", err
		}
		context.AfterFunc(r.t.Context(), cancel)
		r.running = append(r.running, &running{text, f.later, c, out})
		defer func() { r.url = max(anyURL.FindString(out.String()), r.url) }()
		for !f.ready.MatchString(out.String()) {
			select {
			case <-out.grown:
			case <-time.After(100 * time.Millisecond):
				if syscall.Kill(c.Process.Pid, 0) != nil || ended(c.Process.Pid) {
					return "", fmt.Errorf("it ended before it was ready: %s", out)
				}
			case <-ctx.Done():
				return "", fmt.Errorf("it did not print %s within %v: %s", f.ready, patience, out)
			}
		}
		return out.String(), nil
	}
	defer cancel()
	err := c.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return out.String(), err
}

// ended reports whether an unreaped child is a zombie.
func ended(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

// output is what a command has printed so far.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.grown <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var (
	debian  = regexp.MustCompile(` \(Debian [^)]*\)`) // the PostgreSQL of the tests' packages
	digests = regexp.MustCompile(`\b[0-9a-f]{12,64}\b`)
	numbers = regexp.MustCompile(`[0-9][0-9.,:+TZ-]*( ?(ns|µs|ms|s|min|h|B|[KkMG]i?B))?\b`)
	blanks  = regexp.MustCompile(`[ \t]+`)
)

// normal returns a line without the parts that differ between runs.
func normal(line string) string {
	line = debian.ReplaceAllString(line, "")
	line = digests.ReplaceAllString(line, "0")
	line = numbers.ReplaceAllString(line, "0")
	return strings.TrimSpace(blanks.ReplaceAllString(line, " "))
}

// alike compares two lines. If want ends with …, got must only begin with the text before it.
func alike(want, got string) bool {
	if beginning, open := strings.CutSuffix(want, "…"); open {
		return strings.HasPrefix(normal(got), normal(beginning))
	}
	return normal(want) == normal(got)
}

// compare returns an error for the first line of the output that differs from the document.
func compare(want, got []string) error {
	all, skip := got, false
	for _, line := range want {
		if strings.TrimSpace(line) == "…" {
			skip = true
			continue
		}
		i := 0
		for skip && i < len(got) && !alike(line, got[i]) {
			i++
		}
		if i >= len(got) || !alike(line, got[i]) {
			return fmt.Errorf("it does not print the line %q, which the document shows, but:\n%s", line, strings.Join(all, "\n"))
		}
		got, skip = got[i+1:], false
	}
	if len(got) > 0 && !skip {
		return fmt.Errorf("it prints more than the document shows (a line … stands for any lines):\n%s", strings.Join(all, "\n"))
	}
	return nil
}
