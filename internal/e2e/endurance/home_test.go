package endurance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/goproxytest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A household is a phone for the machines of examples/home.yaml. The program in testdata/ledger
// replaces Forgejo and Vaultwarden, which are not among the packages of the tests.
type household struct {
	*phonetest.Pushed
	dir   string
	flags []string // of builds
}

// newHousehold writes the files of the group: the recipes that come with sov, with other programs.
func newHousehold(t *testing.T) *household {
	t.Helper()
	h := &household{phonetest.NewPushed(t, androidtest.NewADBServer(t)), t.TempDir(), nil}
	t.Setenv("GOPROXY", goproxytest.Downloaded(t)+",off")
	h.flags = append([]string{"-o", h.path("out"), "--lock", h.path("sov.lock")}, sovtest.FromMirror()...)
	modules := exec.Command("go", "list", "-m", "-f", "\t{{.Path}} {{.Version}}", "github.com/jackc/pgpassfile", "github.com/jackc/pgservicefile",
		"github.com/jackc/pgx/v5", "golang.org/x/text")
	modules.Dir = sovtest.Root()
	requires, err := modules.Output()
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(sovtest.Root(), "go.sum"))
	if err = errors.Join(err, os.CopyFS(h.path("ledger"), os.DirFS("testdata/ledger"))); err != nil {
		t.Fatal(err)
	}
	h.write("ledger/go.mod", "module ledger.test\n\ngo 1.26.0\n\nrequire (\n"+string(requires)+")\n")
	h.write("ledger/go.sum", string(sums))
	h.write("vault.yaml", "extends: vault\ncopy: []\ntailscale: {enabled: false}\ngo: [{output: /usr/bin/vaultwarden, source: ledger}]\n")
	h.writeForge("1")
	h.writeGroup("")
	return h
}

func (h *household) path(name string) string { return filepath.Join(h.dir, name) }

func (h *household) write(name, text string) {
	h.T.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o644); err != nil {
		h.T.Fatal(err)
	}
}

func (h *household) writeForge(version string) {
	h.write("forge.yaml", "extends: forge\nversion: \""+version+"\"\npackages: {install: [e2fsprogs, ca-certificates-bundle, tzdata]}\n"+
		"tailscale: {enabled: false}\ngo: [{output: /usr/bin/forgejo, source: ledger}]\n")
}

// writeGroup writes the example's group with these recipes, and appends set to the settings of sql.
func (h *household) writeGroup(set string) {
	h.T.Helper()
	text, err := os.ReadFile(filepath.Join(sovtest.Root(), "examples", "home.yaml"))
	if err != nil {
		h.T.Fatal(err)
	}
	h.write("home.yaml", strings.NewReplacer("recipe: forge", "recipe: forge.yaml", "recipe: vault", "recipe: vault.yaml",
		`{name: vault}]"]`, `{name: vault}]", tailscale.enabled=false`+set+"]").Replace(string(text)))
}

// sov runs a command, which must succeed, and logs its duration.
func (h *household) sov(args ...string) sovtest.Outcome {
	h.T.Helper()
	start := time.Now()
	o := h.Sov(args...)
	if o.Status != 0 {
		h.T.Fatalf("sov %s: %v\n%s", strings.Join(args, " "), o, h.Logs())
	}
	h.T.Logf("%5.1f s: sov %s", time.Since(start).Seconds(), strings.Join(args[:min(2, len(args))], " "))
	return o
}

// on appends the flag that names the phone.
func (h *household) on(args ...string) []string { return append(args, "--device", h.ADB.Serial()) }

func (h *household) status(name string) *health.Machine {
	h.T.Helper()
	return phonetest.Health(h.T, h.Do("status", name, "--json").Stdout)
}

// ask sends a request to the program of a machine and returns the response, or an error if the
// status is not 200.
func (h *household) ask(method, name string, port int, path string) (string, error) {
	client := http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}, Timeout: time.Minute}
	request, err := http.NewRequestWithContext(h.T.Context(), method, fmt.Sprintf("http://%s/%s", net.JoinHostPort(h.status(name).Network.Guest.Addr().String(), fmt.Sprint(port)), path), nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return string(text), err
}

// programs maps machines to the ports of their programs.
var programs = map[string]int{"forge": 3000, "vault": 8080}

// add adds a name to both programs. It retries, because a backup stops them for a moment.
func (h *household) add(name string) {
	h.T.Helper()
	for machine, port := range programs {
		h.Within(sovtest.WaitLimit, time.Second, machine+" keeps "+name, func() bool {
			_, err := h.ask(http.MethodPost, machine, port, name)
			return err == nil
		})
	}
}

// keep waits until both programs return these names, from the database and from files, and returns
// their sessions.
func (h *household) keep(names string) (sessions string) {
	h.T.Helper()
	for _, machine := range []string{"forge", "vault"} {
		var got string
		var err error
		defer func() {
			if h.T.Failed() {
				h.T.Logf("%s: %q, %v", machine, got, err)
			}
		}()
		h.Within(sovtest.WaitLimit, time.Second, machine+" has "+names, func() bool {
			got, err = h.ask(http.MethodGet, machine, programs[machine], "")
			return strings.HasPrefix(got, names+"; "+names+"; ")
		})
		sessions += strings.TrimPrefix(got, names+"; "+names) + " "
	}
	return sessions
}

// TestHome runs sql, forge and vault on one phone. One command builds, installs and starts them in
// order. The two programs store names in their databases on sql, and in files. The group is backed
// up and restored as a whole, forge is updated and rolled back, and sql is updated while the others
// run.
func TestHome(t *testing.T) {
	h := newHousehold(t)
	before := h.Snapshot()
	home := h.path("home.yaml")
	said := h.sov(append(h.on("up", home), h.flags...)...).Stdout
	at := -1
	for _, name := range []string{"sql", "forge", "vault"} {
		next := strings.Index(said, name+" is ready at ")
		if next <= at {
			t.Errorf("not in order, or not there: %s: %s", name, said)
		}
		at = next
	}
	h.add("first")
	sessions := h.keep("first")
	h.sov(h.on("backup", home, h.path("monday"))...)
	h.add("second")
	running := func() (processes string) {
		for _, name := range []string{"sql", "forge", "vault"} {
			processes += fmt.Sprint(" ", h.status(name).Crosvm)
		}
		return processes
	}
	others := func(processes, changed string) string {
		fields := strings.Fields(processes)
		fields[map[string]int{"sql": 0, "forge": 1, "vault": 2}[changed]] = changed
		return strings.Join(fields, " ")
	}

	processes := running()
	h.writeForge("2")
	h.sov(append([]string{"build", home}, h.flags...)...)
	h.sov(h.on("push", h.path("out/forge/arm64"), "--restart")...)
	if s := h.status("forge"); s.Version != "2" {
		t.Errorf("updated, forge has version %s", s.Version)
	}
	h.keep("first second")
	h.sov(h.on("rollback", "forge")...)
	if s := h.status("forge"); s.Version != "1" {
		t.Errorf("rolled back, forge has version %s", s.Version)
	}
	if now := running(); others(now, "forge") != others(processes, "forge") || now == processes {
		t.Errorf("forge was updated and rolled back: the processes were%s, and are%s", processes, now)
	}
	h.keep("first second")

	processes = running()
	h.writeGroup(", postgres.settings.work_mem=5MB")
	h.sov(append([]string{"build", home}, h.flags...)...)
	h.sov(h.on("push", h.path("out/sql/arm64"), "--restart")...)
	if now := running(); others(now, "sql") != others(processes, "sql") || now == processes {
		t.Errorf("sql was updated: the processes were%s, and are%s", processes, now)
	}
	if again := h.keep("first second"); again == sessions {
		t.Errorf("sessions %s: sql was not restarted", again)
	}

	h.sov(h.on("restore", home, h.path("monday"), "--yes")...)
	h.keep("first")
	h.noPassword()
	h.sov(h.on("stop", home)...)
	phonetest.SameNetwork(t, "stopped", before, h.Snapshot())
}

// noPassword checks that the generated passwords are not in the images or on the phone's command
// lines.
func (h *household) noPassword() {
	h.T.Helper()
	for _, name := range []string{"forge", "vault"} {
		password := strings.TrimSpace(h.sov("secrets", "show", "sql", "role-"+name).Stdout)
		vm, err := phonepath.Default.VM(name)
		if err != nil || len(password) < 16 {
			h.T.Fatalf("the password of %s: %q, %v", name, password, err)
		}
		found := h.Shell("grep -lF '" + password + "' " + vm.Slot("a") + "/* " + vm.Slot("b") + "/* " + vm.Console() + " || true; ps -eo args | grep -F '" + password + "' | grep -v grep || true")
		if strings.TrimSpace(found) != "" {
			h.T.Errorf("the password of %s is in %s", name, found)
		}
	}
}
