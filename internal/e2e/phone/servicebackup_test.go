package phone

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest/lightguest"
	"github.com/sovereign-sql/sov/internal/testkit/phonetest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestBackupOfServices backs up and restores the data of services of a machine without PostgreSQL,
// all services or one. The guest's tests cover what happens in the guest.
func TestBackupOfServices(t *testing.T) {
	t.Parallel()
	h := phonetest.NewLight(t, vmspec.Scoped, lightguest.Script{Data: map[string]string{"forge": "one", "vault": "two"}}, "{}")
	server := androidtest.NewADBServer(t)
	server.Connect(h.ServeADB(androidtest.ADBOptions{}))
	run := func(want int, args ...string) sovtest.Outcome {
		t.Helper()
		o := sovtest.Run(t, func(c *exec.Cmd) {
			c.Env = append(os.Environ(), "PATH="+filepath.Dir(server.Program())+":"+os.Getenv("PATH"), "ANDROID_SERIAL=")
		}, args...)
		if o.Status != want {
			t.Fatalf("sov %s: want status %d: %v\n%s", strings.Join(args, " "), want, o, h.Logs())
		}
		return o
	}
	h.Do("up", "sql")
	file := filepath.Join(t.TempDir(), "b.zip")
	if o := run(0, "backup", "sql", file); !strings.Contains(o.Stdout, "services forge, vault") && !strings.Contains(o.Stdout, "services vault, forge") {
		t.Errorf("backup: %v", o)
	}
	status := phonetest.Health(t, run(0, "status", "sql", "--json").Stdout)
	if b := status.Backup; b == nil || !slices.Contains(b.Services, "forge") || len(b.Services) != 2 || len(b.Databases) != 0 {
		t.Errorf("the status does not know the backup: %+v", b)
	}
	if o := run(0, "status", "sql"); !strings.Contains(o.Stdout, ", services ") {
		t.Errorf("status: %v", o)
	}
	if o := run(0, "list"); !strings.Contains(o.Stdout, ", services ") {
		t.Errorf("list: %v", o)
	}
	if o := run(0, "restore", "sql", file, "--check", "--json"); !strings.Contains(o.Stdout, `"forge"`) || !strings.Contains(o.Stdout, `"databases": []`) {
		t.Errorf("restore --check: %v", o)
	}
	if o := run(0, "restore", "sql", file, "--service", "forge", "--yes"); o.Stdout != "restored: forge\n" {
		t.Errorf("restore of one: %v", o)
	}
	if o := run(0, "restore", "sql", file, "--yes"); o.Stdout != "restored: forge, vault\n" {
		t.Errorf("restore: %v", o)
	}
	for args, want := range map[string]string{
		"--service gate":     "must be one that",
		"--database shop":    "holds no database",
		"--service forge -n": "unknown",
	} {
		if o := run(2, slices.Concat([]string{"restore", "sql", file}, strings.Fields(args))...); !strings.Contains(o.Stderr, want) {
			t.Errorf("%s: %v", args, o)
		}
	}
	h.Do("down", "sql")
}
