package apk

import (
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// TestDatabaseUnderUsr installs on a base whose database is only under /usr, as in images with a
// merged /usr whose /lib does not contain apk.
func TestDatabaseUnderUsr(t *testing.T) {
	const installed = "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:4\nI:4\nT:libc\nU:https://musl.libc.org/\nL:MIT\n\n"
	tr := tree.New()
	for name, content := range map[string]string{"usr/lib/apk/db/installed": installed, "usr/lib/apk/db/triggers": "", "lib/ld.so": ""} {
		if err := tr.Put(name, &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte(content))}); err != nil {
			t.Fatal(err)
		}
	}
	before, err := Installed(tr)
	if err != nil || len(before) != 1 || before[0].Name != "musl" {
		t.Fatalf("installed in the base: %v, %v", before, err)
	}
	if err := install(t, tr, testPkg{name: "a", version: "1-r0", files: entries("usr/", "usr/bin/", "usr/bin/a: a")}); err != nil {
		t.Fatal(err)
	}
	after, err := Installed(tr)
	if err != nil || len(after) != 2 {
		t.Errorf("installed afterwards: %v, %v", after, err)
	}
	if _, ok := tr.Lookup("lib/apk"); ok {
		t.Error("a second database was made in /lib/apk")
	}
	text, err := readFile(tr, "usr/lib/apk/db/installed")
	if err != nil || !strings.Contains(string(text), "P:a\n") {
		t.Errorf("/usr/lib/apk/db/installed: %v\n%s", err, text)
	}
	if _, ok := tr.Lookup("usr/lib/apk/db/scripts.tar"); !ok {
		t.Error("the scripts are not beside the rest of the database")
	}
}
