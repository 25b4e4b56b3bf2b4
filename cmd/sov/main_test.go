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
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/host/compare"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// cli runs a command line and returns its output and exit status.
func cli(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errOut bytes.Buffer
	status = execute(context.Background(), args, strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), status
}

// TestEveryCommandHelps verifies that every command has a summary, an example that begins with the
// command's name, and help that is printed without an error.
func TestEveryCommandHelps(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return // cobra's own
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: summary %q: want one line without a full stop", c.CommandPath(), c.Short)
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: its example does not show it", c.CommandPath())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s --%s: %q in back quotes is taken for the name of its value", c.CommandPath(), f.Name, name)
			}
		})
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		if out, _, status := cli(t, args...); status != exitDone || !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help: status %d:\n%s", c.CommandPath(), status, out)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"bild"},
		{"build"},
		{"build", "sql", "--arch", "mips"},
		{"build", "sql", "--jobs", "0"},
		{"build", "sql", "--jobs", "many"},
		{"build", "sql", "--progress", "loud"},
		{"build", "sql", "--kernel", "a", "--with-kernel-source", "b"},
		{"build", "sql", "--offline", "--update-lock"},
		{"run", "sql", "--unknown"},
		{"run", "sql", "--arch", "mips"},
		{"run", "sql", "--detach", "--ephemeral"},
		{"run", "sql", "--systemd", "--query", "select 1"},
		{"stop", "sql", "--local", "--all"},
		{"status", "sql", "--local", "--watch"},
		{"shell", "sql", "--local", "--device", "x"},
		{"psql", "sql", "--state", "x", "--device", "x"},
		{"exec", "sql"},
		{"inspect", "dance"},
		{"inspect", "config", "x", "weather"},
		{"cache", "prune", "--unused-for", "long"},
		{"cache", "prune", "--max-size", "huge"},
		{"doctor", "--only", "weather"},
		{"diff", "one"},
		{"build", "--bundle", "x", "--update-lock"},
		{"bundle", "sql"},
		{"lock"},
		{"lock", "sql", "--check", "--update", "image"},
		{"lock", "sql", "--arch", "mips"},
		{"publish", "sql"},
		{"publish", "sql", "UPPER:CASE:REF"},
		{"publish", "sql", "127.0.0.1:1/sql@sha256:0000000000000000000000000000000000000000000000000000000000000000"},
		{"pull", "127.0.0.1:1/sql:1", "--arch", "mips"},
		{"sign"},
	} {
		_, stderr, status := cli(t, args...)
		if status != exitUsage || !strings.HasPrefix(stderr, "sov: ") {
			t.Errorf("sov %s: status %d, want %d; says %q", strings.Join(args, " "), status, exitUsage, stderr)
		}
	}
}

func TestMissingArtifactMessage(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	for _, args := range [][]string{
		{"verify", absent}, {"inspect", "ls", absent}, {"inspect", "config", absent}, {"run", "sql", "-o", absent, "--ephemeral"},
	} {
		_, stderr, status := cli(t, args...)
		if status != exitFailed || !strings.Contains(stderr, "sov build") {
			t.Errorf("sov %s: status %d, says %q", strings.Join(args, " "), status, stderr)
		}
	}
}

// TestRunRefusesUnansweredQueries verifies that --query is refused for a machine without a database
// before the machine boots.
func TestRunRefusesUnansweredQueries(t *testing.T) {
	dir := t.TempDir()
	spec := vmspec.Spec{
		Format: vmspec.Format, Name: "mute", Arch: "arm64", Kernel: "kernel", MemoryMiB: 64, CPUs: 1,
		Disks: []vmspec.Disk{{Role: vmspec.RoleRootfs, File: artifact.RootfsFile, ReadOnly: true}},
		Network: vmspec.Network{TAP: "vm", Host: netip.MustParsePrefix("192.168.100.1/24"), Guest: netip.MustParsePrefix("192.168.100.2/24"),
			MTU: 1500, Hostname: "mute", Routing: vmspec.MainFirst},
		Ready: vmspec.Ready{Port: vmspec.StatusPort, TimeoutSeconds: 1},
	}
	text, err := spec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vm.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := cli(t, "run", dir, "--ephemeral", "--query", "select 1")
	if status != exitFailed || !strings.Contains(stderr, "network.publish") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestVersion(t *testing.T) {
	out, _, status := cli(t, "version", "--json")
	var report versionReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != exitDone || report.Go == "" {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, _, status := cli(t, "completion", shell); status != exitDone || !strings.Contains(out, "sov") {
			t.Errorf("completion %s: status %d", shell, status)
		}
	}
	if out, _, _ := cli(t, "__complete", "build", "--arch", ""); !strings.Contains(out, "arm64") {
		t.Errorf("--arch completes to %s", out)
	}
	if out, _, _ := cli(t, "__complete", "build", ""); !strings.HasPrefix(out, "sql\n") {
		t.Errorf("a recipe completes to %s", out)
	}
	if out, _, _ := cli(t, "__complete", "build", "sql", ""); strings.Contains(out, "sql") {
		t.Errorf("behind the recipe comes %s", out)
	}
}

// picture writes a small image with several kinds of entries. change may modify its tree first.
func picture(t *testing.T, change func(*tree.Tree)) string {
	t.Helper()
	when := time.Unix(1700000000, 123456789)
	tr := tree.New()
	for p, n := range map[string]*tree.Inode{
		"etc":        {Mode: tree.S_IFDIR | 0o755, ModTime: when},
		"etc/motd":   {Mode: tree.S_IFREG | 0o644, UID: 70, GID: 71, ModTime: when, Content: tree.Bytes([]byte("hello\n"))},
		"etc/secret": {Mode: tree.S_IFREG | 0o4711, ModTime: when, Xattrs: map[string][]byte{"user.note": []byte("x")}},
		"link":       {Mode: tree.S_IFLNK | 0o777, ModTime: when, Target: "etc/motd"},
		"null":       {Mode: tree.S_IFCHR | 0o666, ModTime: when, Major: 1, Minor: 3},
		".hidden":    {Mode: tree.S_IFREG | 0o600, ModTime: when},
		"bell\a":     {Mode: tree.S_IFLNK | 0o777, ModTime: when, Target: "\x1b[2J"},
	} {
		if err := tr.Put(p, n); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(tr)
	}
	path := filepath.Join(t.TempDir(), "rootfs.img")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := ext4.Write(t.Context(), file, tr, ext4.Options{Label: "picture"}); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInspect(t *testing.T) {
	img := picture(t, nil)
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"ls", img}, []string{"drwxr-xr-x", "lrwxrwxrwx", "link -> etc/motd", "crw-rw-rw-", "1:3", "null"}},
		{[]string{"ls", img, "/etc"}, []string{"-rw-r--r--", "70", "71", "2023-11-14T22:13:20 motd", "-rws--x--x"}},
		{[]string{"ls", img, "etc/motd"}, []string{"motd"}},
		{[]string{"cat", img, "/etc/motd", "/link"}, []string{"hello\nhello\n"}},
		{[]string{"stat", img, "/etc/secret"}, []string{"/etc/secret", `user.note="x"`, "2023-11-14T22:13:20.123456789Z"}},
		{[]string{"stat", img, "/link"}, []string{"target  etc/motd"}},
		{[]string{"stat", img}, []string{"picture", "metadata_csum", "4096"}},
		{[]string{"tree", "--size", img}, []string{"6 B", "etc/", "motd"}},
		{[]string{"ls", "--json", img, "/etc"}, []string{`"path": "/etc/motd"`, `"uid": 70`}},
		{[]string{"tree", "--json", img}, []string{`"name": "/"`}},
		{[]string{"packages", "--json", img}, []string{"[]"}},
		{[]string{"stat", img, "/.hidden"}, []string{"path    /.hidden\n"}},
		{[]string{"ls", img}, []string{`"bell\a" -> "\x1b[2J"`}},
		{[]string{"tree", img}, []string{`"bell\a"`}},
	} {
		stdout, stderr, status := cli(t, append([]string{"inspect"}, test.args...)...)
		if status != exitDone {
			t.Errorf("inspect %v: status %d: %s", test.args, status, stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(stdout, want) {
				t.Errorf("inspect %v: no %q in\n%s", test.args, want, stdout)
			}
		}
	}
}

// TestInspectNamesWhatIsMissing verifies that the error for a missing path names the image and the
// path.
func TestInspectNamesWhatIsMissing(t *testing.T) {
	img := picture(t, nil)
	for _, verb := range []string{"ls", "cat", "stat", "tree"} {
		_, stderr, status := cli(t, "inspect", verb, img, "/etc/absent")
		if status != exitFailed || !strings.Contains(stderr, img) || !strings.Contains(stderr, "etc/absent") {
			t.Errorf("%s: status %d: %s", verb, status, stderr)
		}
	}
}

func TestInspectRefusesOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte("no image "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, status := cli(t, "inspect", "ls", path); status != exitFailed || !strings.Contains(stderr, "text.img") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestDiff(t *testing.T) {
	a := picture(t, nil)
	b := picture(t, func(tr *tree.Tree) {
		n, _ := tr.Lookup("etc/motd")
		n.Content, n.UID = tree.Bytes([]byte("howdy\n")), 0
		tr.Remove("null")
		if err := tr.Put("new", &tree.Inode{Mode: tree.S_IFREG, ModTime: time.Unix(0, 0)}); err != nil {
			t.Fatal(err)
		}
	})
	if out, _, status := cli(t, "diff", a, picture(t, nil)); status != exitDone || out != "identical\n" {
		t.Errorf("same tree: status %d: %s", status, out)
	}
	out, _, status := cli(t, "diff", a, b)
	if status != exitFound {
		t.Errorf("status %d, want %d", status, exitFound)
	}
	for _, want := range []string{"~ /etc/motd (owner, content)", "- /null", "+ /new"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	folderA, folderB := filepath.Dir(a), filepath.Dir(b)
	if err := os.WriteFile(filepath.Join(folderA, "kernel"), []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, status = cli(t, "diff", "--json", folderA, folderB)
	var report compare.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if status != exitFound || report.Identical || len(report.Files) != 2 || report.Files[0].Status != compare.OnlyInA || len(report.Changes) == 0 {
		t.Errorf("status %d: %s", status, out)
	}
	if _, _, status := cli(t, "diff", a, folderB); status != exitFailed {
		t.Errorf("an image beside a folder: status %d", status)
	}
}

// TestHelpReads verifies that the help of every command fits a terminal of 100 columns. TestWording
// in internal checks the words.
func TestHelpReads(t *testing.T) {
	const columns = 100
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Name() == "completion" {
			return // cobra's own
		}
		for line := range strings.SplitSeq(c.Long, "\n") {
			if utf8.RuneCountInString(line) > columns {
				t.Errorf("%s: a line of its help has more than %d columns: %s", c.CommandPath(), columns, line)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
}
