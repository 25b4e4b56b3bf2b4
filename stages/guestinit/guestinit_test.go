package guestinit

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
	"github.com/sovereign-sql/sov/stages/overlay"
)

var someTime = time.Unix(1700000000, 0).UTC()

// below returns a small root file system.
func below(t *testing.T, files map[string]string) *tree.Tree {
	t.Helper()
	root := tree.New()
	for name, content := range files {
		n := &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte(content))}
		if name == "etc/shadow" {
			n.Mode, n.GID = tree.S_IFREG|0o640, 42
		}
		if err := root.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

var alpine = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/sbin/nologin\n",
	"etc/shadow": "root:*::0:::::\n",
	"etc/group":  "root:x:0:root\nshadow:x:42:\n",
}

func parse(t *testing.T, rest string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Parse("test.yaml", []byte("name: test\nversion: \"3\"\nbase: {image: alpine}\n"+rest))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// apply runs the stage on a tree.
func apply(t *testing.T, root *tree.Tree, r *recipe.Recipe) error {
	t.Helper()
	s := &stage{Options{Program: []byte("#!program"), Recipe: r}}
	b := overlay.NewBuilder(someTime)
	if err := s.fill(b, root); err != nil {
		return err
	}
	var share bytes.Buffer
	if err := b.WriteTar(&share); err != nil {
		t.Fatal(err)
	}
	if err := overlay.Apply(root, bytes.NewReader(share.Bytes()), int64(share.Len())); err != nil {
		t.Fatal(err)
	}
	return nil
}

func read(t *testing.T, root *tree.Tree, name string) string {
	t.Helper()
	b, err := overlay.ReadFile(root, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const postgresUser = `
users: [{name: postgres, uid: 70, gid: 70, home: /var/lib/postgresql, shell: /bin/sh}]
directories: [{path: /var/lib/postgresql, mode: "0750", owner: postgres}]
postgres: {enabled: true}
`

func TestAddsAccounts(t *testing.T) {
	root := below(t, alpine)
	if err := apply(t, root, parse(t, postgresUser)); err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"etc/passwd": "postgres:x:70:70::/var/lib/postgresql:/bin/sh\n",
		"etc/shadow": "postgres:*::0:::::\n",
		"etc/group":  "postgres:x:70:\n",
	} {
		if got := read(t, root, name); got != alpine[name]+line {
			t.Errorf("%s:\n%s", name, got)
		}
	}
	if n, _ := root.Lookup("etc/shadow"); n.Mode != tree.S_IFREG|0o640 || n.GID != 42 {
		t.Errorf("etc/shadow has mode %o and group %d", n.Mode, n.GID)
	}
	if n, ok := root.Lookup("var/lib/postgresql"); !ok || n.Mode != tree.S_IFDIR|0o750 || n.UID != 70 || n.GID != 70 {
		t.Errorf("var/lib/postgresql: %+v", n)
	}
}

func TestKeepsAccountsThatAreThere(t *testing.T) {
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:998::/var/lib/postgresql:/bin/sh\n",
		"etc/shadow": "root:*::0:::::\npostgres:!::0:::::",
		"etc/group":  "root:x:0:root\npostgres:x:998:\n",
	}
	root := below(t, files)
	if err := apply(t, root, parse(t, postgresUser)); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if got := read(t, root, name); got != content {
			t.Errorf("%s was changed:\n%s", name, got)
		}
	}
	if n, _ := root.Lookup("var/lib/postgresql"); n.UID != 999 || n.GID != 998 {
		t.Errorf("var/lib/postgresql belongs to %d:%d", n.UID, n.GID)
	}
}

func TestRefuses(t *testing.T) {
	tests := []struct {
		name, passwd, rest, want string
	}{
		{"an id that is taken", "other:x:70:70::/:/bin/sh\n", postgresUser, "id 70 is that of user other"},
		{"no user for the server", "", "postgres: {enabled: true}", "there is no user postgres"},
		{"no user for a service", "", "services: [{name: a, command: [/a], user: app}]", "there is no user app"},
		{"a group that is nowhere", "", "services: [{name: a, command: [/a], group: app}]", "service a: there is no group app"},
		{"a directory without an owner", "", "directories: [{path: /srv, owner: app}]", "directory /srv: there is no user app"},
		{"a malformed line", "postgres:x\n", postgresUser, "the line of postgres has 2 fields"},
		{"a malformed id", "postgres:x:many:70::/:\n", postgresUser, "invalid syntax"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"etc/passwd": alpine["etc/passwd"] + tt.passwd, "etc/group": alpine["etc/group"]}
			err := apply(t, below(t, files), parse(t, tt.rest))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	t.Run("a file to mount over", func(t *testing.T) {
		if err := apply(t, below(t, map[string]string{"data": "x"}), parse(t, "")); err == nil || !strings.Contains(err.Error(), "/data") {
			t.Errorf("got %v", err)
		}
	})
}

// treeFS returns the specification files of a tree for guestspec.Load.
func treeFS(t *testing.T, root *tree.Tree) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	err := root.Walk(func(p string, n *tree.Inode) error {
		if n.IsRegular() && strings.HasPrefix(p, "etc/sov/") {
			files[p] = &fstest.MapFile{Data: []byte(read(t, root, p)), Mode: fs.FileMode(n.Mode & 0o777)}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestInitReadsWhatIsWritten reads the files with the init's own reader.
func TestInitReadsWhatIsWritten(t *testing.T) {
	root := below(t, alpine)
	r := parse(t, `
network: {hostname: box}
services:
  - name: web
    command: [/bin/httpd, -f]
    user: nobody
    environment: {A: b}
    prepare: [[/bin/true], [/bin/echo, x]]
    ready: {tcp: "127.0.0.1:80", timeout: 5s}
    restart: {policy: on-failure, backoff: 2s}
    stop: {signal: SIGINT, timeout: 3s}
    oom_score_adj: 5
  - name: later
    command: [/bin/later]
    after: [web]
`)
	if err := apply(t, root, r); err != nil {
		t.Fatal(err)
	}
	c, err := guestspec.Load(treeFS(t, root))
	if err != nil {
		t.Fatal(err)
	}
	if c.Hostname != "box" || c.Image != (guestspec.Image{Name: "test", Version: "3"}) {
		t.Errorf("got %+v", c)
	}
	if !c.Endpoint.Shell {
		t.Error("the guest has no shell")
	}
	if len(c.Services) != 2 || c.Services[0].Name != "later" || fmt.Sprint(c.Services[0].After) != "[web]" {
		t.Fatalf("services: %+v", c.Services)
	}
	web := c.Services[1]
	if web.User != "nobody" || web.Env["A"] != "b" || len(web.Prepare) != 2 || web.Ready.TCP != "127.0.0.1:80" ||
		web.Restart.Policy != guestspec.OnFailure || web.Stop.Signal != "SIGINT" || web.OOMScoreAdj != 5 {
		t.Errorf("web: %+v", web)
	}
}

// TestNoShell disables the shell in the recipe.
func TestNoShell(t *testing.T) {
	root := below(t, alpine)
	if err := apply(t, root, parse(t, "vm: {shell: false}")); err != nil {
		t.Fatal(err)
	}
	if c, err := guestspec.Load(treeFS(t, root)); err != nil || c.Endpoint.Shell {
		t.Errorf("%+v, %v", c.Endpoint, err)
	}
}

func TestPlacesToMount(t *testing.T) {
	root := below(t, alpine)
	if err := root.Put("tmp", &tree.Inode{Mode: tree.S_IFDIR | 0o1770, GID: 5}); err != nil {
		t.Fatal(err)
	}
	if err := apply(t, root, parse(t, "")); err != nil {
		t.Fatal(err)
	}
	got := map[string]uint32{}
	for _, name := range []string{"data", "dev", "proc", "run", "sys", "tmp"} {
		if n, ok := root.Lookup(name); ok {
			got[path.Base(name)] = n.Mode &^ tree.S_IFDIR
		}
	}
	want := map[string]uint32{"data": 0o755, "dev": 0o755, "proc": 0o555, "run": 0o755, "sys": 0o555, "tmp": 0o1770}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n, ok := root.Lookup("etc/resolv.conf"); !ok || n.Target != "../run/resolv.conf" {
		t.Errorf("etc/resolv.conf: %+v", n)
	}
	if n, ok := root.Lookup("sbin/sov-init"); !ok || n.Mode != tree.S_IFREG|0o755 || !n.ModTime.Equal(someTime) {
		t.Errorf("sbin/sov-init: %+v", n)
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add(alpine["etc/passwd"])
	f.Add("::::\n:\n\npostgres:x:-1:4294967296")
	f.Fuzz(func(t *testing.T, passwd string) {
		defer costtest.Text.Watch(t, len(passwd))()
		a, err := readAccounts(below(t, map[string]string{"etc/passwd": passwd}))
		if err != nil {
			return
		}
		u := recipe.User{Name: "postgres", UID: 70, GID: 70, Group: "postgres", Home: "/", Shell: "/bin/sh"}
		if a.addUser(u) != nil {
			return
		}
		if _, ok := a.passwd.find("postgres"); !ok {
			t.Error("the user was not added")
		}
	})
}
