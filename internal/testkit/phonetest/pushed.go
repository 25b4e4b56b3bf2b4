package phonetest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact/installed"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/push"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// A Pushed is a phone to which tests push with the real adb, as a separate user of a computer.
type Pushed struct {
	*Handset
	ADB    *androidtest.ADB
	Server *androidtest.ADBServer
	config string // folder of the user's configuration and state
}

// NewPushed returns a phone on which nothing is installed.
func NewPushed(t testing.TB, server *androidtest.ADBServer) *Pushed {
	t.Helper()
	return NewPushedOn(t, androidtest.Options{}, server)
}

// NewPushedOn is NewPushed on a phone with options.
func NewPushedOn(t testing.TB, o androidtest.Options, server *androidtest.ADBServer) *Pushed {
	t.Helper()
	h := &Handset{Phone: androidtest.New(t, o), T: t}
	var err error
	if h.VM, err = phonepath.Default.VM("sql"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.File(filepath.Dir(phonepath.Default.Runner()))); err != nil {
		t.Fatal(err)
	}
	h.Put(phonepath.Default.Settings(), fmt.Sprintf(handsetSettings, ""), 0o644)
	p := &Pushed{Handset: h, ADB: h.ServeADB(androidtest.ADBOptions{}), Server: server, config: t.TempDir()}
	server.Connect(p.ADB)
	return p
}

// Reboot restarts the phone and connects it to the adb server again.
func (p *Pushed) Reboot() {
	p.T.Helper()
	p.Phone.Reboot(false)
	p.Server.Connect(p.ADB)
}

// Sov runs sov for this phone.
func (p *Pushed) Sov(args ...string) sovtest.Outcome {
	p.T.Helper()
	return p.SovBy(sovtest.Program, args...)
}

// SovBy is Sov with another program, such as an earlier version.
func (p *Pushed) SovBy(program string, args ...string) sovtest.Outcome {
	p.T.Helper()
	in := ""
	if args[0] == "secrets" {
		in = Password
	}
	return p.sov(program, in, args)
}

// SovWith runs sov for this phone with a text on its standard input. It fails the test on an error.
func (p *Pushed) SovWith(in string, args ...string) {
	p.T.Helper()
	if o := p.sov(sovtest.Program, in, args); o.Status != 0 {
		p.T.Fatalf("sov %s: %v", strings.Join(args, " "), o)
	}
}

func (p *Pushed) sov(program, in string, args []string) sovtest.Outcome {
	p.T.Helper()
	command := exec.Command(program, args...)
	command.Dir, command.Env, command.Stdin = p.T.TempDir(), p.Environ(), strings.NewReader(in)
	result, err := sovtest.Finish(command)
	if err != nil {
		p.T.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return result
}

// Environ returns the environment of the phone's user, with the test's adb in PATH.
func (p *Pushed) Environ() []string {
	return append(os.Environ(), "PATH="+filepath.Dir(p.Server.Program())+":"+os.Getenv("PATH"), "SOV_CONFIG_DIR="+p.config, "SOV_STATE_DIR="+p.config)
}

// Push pushes an artifact with flags and returns the result.
func (p *Pushed) Push(dir string, flags ...string) push.Result {
	p.T.Helper()
	o := p.Sov(append([]string{"push", dir, "--json", "--device", p.ADB.Serial()}, flags...)...)
	if o.Status != 0 {
		p.T.Fatalf("sov push: %v\n%s", o, p.Logs())
	}
	var r push.Result
	if err := json.Unmarshal([]byte(o.Stdout), &r); err != nil {
		p.T.Fatalf("%v: %v", err, o)
	}
	return r
}

// Whole compares every file of the phone's current version with its manifest and returns the
// version's digest.
func (p *Pushed) Whole() string {
	p.T.Helper()
	target, err := os.Readlink(p.File(p.VM.Current()))
	if err != nil {
		p.T.Fatal(err)
	}
	dir := filepath.Join(p.File(p.VM.Dir()), target)
	a, err := installed.Load(dir)
	if err != nil {
		p.T.Fatal(err)
	}
	for _, want := range a.Files {
		content, err := os.ReadFile(filepath.Join(dir, want.Name))
		if err != nil || manifest.Describe(want.Name, content) != want {
			p.T.Fatalf("%s: %s is not whole: %v", target, want.Name, err)
		}
	}
	return a.Digest
}
