package phone

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A home is a phonetest.Home with the group's file.
type home struct {
	*phonetest.Home
	file string
}

// sov runs the program with the group's file. The exit status must be want.
func (h *home) sov(want int, verb string, args ...string) sovtest.Outcome {
	h.T.Helper()
	o := sovtest.Run(h.T, func(c *exec.Cmd) {
		c.Env = append(os.Environ(), "PATH="+filepath.Dir(h.Server.Program())+":"+os.Getenv("PATH"), "ANDROID_SERIAL=")
	}, append([]string{verb, h.file}, args...)...)
	if o.Status != want {
		h.T.Fatalf("sov %s of a group: want status %d: %v\n%s", verb, want, o, h.Logs())
	}
	return o
}

// order returns the machines that a text names, one for each line that contains word.
func order(text, word string) string {
	var names []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			name, _, _ := strings.Cut(line, " ")
			names = append(names, strings.TrimSuffix(name, ":"))
		}
	}
	return strings.Join(names, " ")
}

// from connects from a machine's guest to a database, and returns the first byte that it sends, or
// "".
func (h *home) from(name, to string) string {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(h.T.Context(), sovtest.WaitLimit)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", net.JoinHostPort(h.StatusOf(name).Network.Guest.Addr().String(), strconv.Itoa(lightguest.RelayPort)))
	if err != nil {
		h.T.Fatalf("connect to %s: %v", name, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(sovtest.WaitLimit))
	fmt.Fprintf(conn, "%s\n01234567\n", to)
	answer, _ := io.ReadAll(io.LimitReader(conn, 1)) // empty: the connection was refused
	return string(answer)
}

// TestGroup checks that machines of a group resolve each other's names and reach only each other's
// published ports. This includes a machine that is installed later, restarted or rolled back while
// the others run. The phone assigns each machine a network. Commands process the machines in order,
// and the phone starts them in that order at boot.
func TestGroup(t *testing.T) {
	t.Parallel()
	h := &home{Home: phonetest.NewHome(t)}
	h.file = h.GroupFile(t.TempDir())
	h.Add("sql", "home")
	h.Do("up", "sql")
	for name, group := range map[string]string{"forge": "home", "vault": "home", "stranger": "away"} {
		h.Add(name, group, "sql")
		h.Do("up", name)
	}
	subnets := map[string]bool{}
	for _, name := range []string{"sql", "forge", "vault", "stranger"} {
		subnets[h.StatusOf(name).Network.Host.Masked().String()] = true
	}
	if len(subnets) != 4 || !subnets["192.168.100.0/24"] {
		t.Errorf("four machines have the networks %v", subnets)
	}
	h.Eventually("sql reaches forge by name", func() bool { return h.from("sql", "forge.internal:5432") == "N" })
	if got := h.from("forge", "sql.internal:5432"); got != "N" {
		t.Errorf("forge does not reach sql by name: %q", got)
	}
	stranger := h.StatusOf("stranger").Network.Guest.Addr().String()
	for _, to := range []string{"sql.internal:" + strconv.Itoa(guestspec.EndpointPort), stranger + ":5432"} { // not published, and not in the group
		if got := h.from("forge", to); got != "" {
			t.Errorf("forge reaches %s", to)
		}
	}
	if got := h.from("stranger", h.StatusOf("sql").Network.Guest.Addr().String()+":5432"); got != "" {
		t.Error("a machine of another group reaches sql")
	}

	// Only forge is updated and rolled back.
	sql, vault, forge := h.StatusOf("sql").Crosvm, h.StatusOf("vault").Crosvm, h.StatusOf("forge")
	const next = "/data/local/forge"
	if err := os.MkdirAll(h.File(next), 0o755); err != nil {
		t.Fatal(err)
	}
	androidtest.LightArtifact(t, h.File(next), "forge", vmspec.Scoped, lightguest.Script{Data: map[string]string{"forge-service": "new"}}, phonetest.Joins("home", "sql"))
	h.Do("install", "forge", next)
	h.Do("restart", "forge")
	h.Do("rollback", "forge")
	h.Eventually("sql reaches forge again", func() bool { return h.from("sql", "forge.internal:5432") == "N" })
	if now := h.StatusOf("forge"); now.Network.Guest != forge.Network.Guest || now.Slot != forge.Slot || now.Crosvm == forge.Crosvm {
		t.Errorf("rolled back, forge is in slot %s at %s, process %d; before in %s at %s, %d", now.Slot, now.Network.Guest, now.Crosvm, forge.Slot, forge.Network.Guest, forge.Crosvm)
	}
	if a, b := h.StatusOf("sql").Crosvm, h.StatusOf("vault").Crosvm; a != sql || b != vault {
		t.Errorf("others were restarted: sql's process %d, then %d, vault's %d, then %d", sql, a, vault, b)
	}

	if got := order(h.sov(0, "logs", "--runner", "-n", "1").Stdout, ":"); got != "sql forge vault" {
		t.Errorf("logs of %q", got)
	}
	folder := filepath.Join(t.TempDir(), "monday")
	if got := h.sov(0, "backup", folder).Stdout; !strings.Contains(got, folder+"/sql.zip") || !strings.Contains(got, folder+"/vault.zip") || !strings.Contains(got, folder+"/forge.zip") {
		t.Errorf("backup: %s", got)
	}
	if o := h.sov(1, "backup", folder); !strings.Contains(o.Stderr, "sql.zip is there already: name another folder") {
		t.Errorf("a second backup into the folder: %v", o)
	}
	if o := h.sov(0, "restore", folder, "--check"); !strings.Contains(o.Stdout, "forge.zip: whole, of forge") {
		t.Errorf("restore --check: %v", o)
	}
	if got := h.sov(0, "restore", folder, "--yes").Stdout; got != "restored: sql-service\nrestored: forge-service\nrestored: vault-service\n" {
		t.Errorf("restore: %s", got)
	}
	if o := h.sov(2, "restore", folder, "--yes", "--service", "forge-service"); !strings.Contains(o.Stderr, "name one machine of the group") {
		t.Errorf("restore --service: %v", o)
	}
	if err := os.Rename(folder+"/vault.zip", folder+"/sql.zip"); err != nil {
		t.Fatal(err)
	}
	if o := h.sov(1, "restore", folder, "--yes"); !strings.Contains(o.Stderr, "the backup of the group is not whole") {
		t.Errorf("restore of a part: %v", o)
	}
	if err := os.Link(folder+"/forge.zip", folder+"/vault.zip"); err != nil {
		t.Fatal(err)
	}
	if o := h.sov(1, "restore", folder, "--yes"); !strings.Contains(o.Stderr, "sql.zip is a backup of vault: put that of sql there") {
		t.Errorf("restore of others' backups: %v", o)
	}
	if got := order(h.sov(0, "stop").Stdout, " is down"); got != "vault forge sql" {
		t.Errorf("stopped: %s", got)
	}

	// At boot, the daemons start in any order.
	h.SetProp("sys.boot_completed", "0")
	for _, name := range []string{"forge", "vault", "sql"} {
		h.Do("up", name, "--no-wait")
	}
	h.SetProp("sys.boot_completed", "1")
	h.Eventually("all are ready", func() bool {
		return h.StatusOf("sql").Phase == runnerapi.Ready && h.StatusOf("forge").Phase == runnerapi.Ready && h.StatusOf("vault").Phase == runnerapi.Ready
	})
	first := h.StatusOf("sql").ReadyAt
	for _, name := range []string{"forge", "vault"} {
		if s := h.StatusOf(name); s.StartedAt.Before(first) || s.Reason != "" {
			t.Errorf("%s was started at %s, sql was ready at %s; %s", name, s.StartedAt, first, s.Reason)
		}
	}
	// A machine does not wait for a machine that does not run.
	for _, name := range []string{"forge", "sql"} {
		h.Do("down", name)
	}
	h.Do("up", "forge")
	vm, err := phonepath.Default.VM("forge")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(h.File(vm.Log())); !strings.Contains(string(text), "waits for sql\n") ||
		!strings.Contains(string(text), "started without waiting for sql: sql does not run") {
		t.Errorf("forge's log: %v\n%s", err, text)
	}
	if got := order(h.sov(0, "start").Stdout, " is ready at"); got != "sql forge vault" {
		t.Errorf("started: %s", got)
	}
	for _, name := range []string{"stranger", "forge", "vault", "sql"} {
		h.Do("down", name)
	}
}
