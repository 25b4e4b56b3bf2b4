package program

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func put(t testing.TB, tr *tree.Tree, name, content string, mode uint32) {
	t.Helper()
	if err := tr.Put(name, &tree.Inode{Mode: tree.S_IFREG | mode, Content: tree.Bytes([]byte(content))}); err != nil {
		t.Fatal(err)
	}
}

// fromHere puts a program of this computer, its loader and its libraries into a tree. ldd lists
// them.
func fromHere(t *testing.T, program string) (tr *tree.Tree, libraries []string) {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Skipf("ldd %s: %v", program, err)
	}
	tr = tree.New()
	for _, word := range strings.Fields(string(out)) {
		if filepath.IsAbs(word) {
			libraries = append(libraries, word)
		}
	}
	for _, name := range append([]string{program}, libraries...) {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		put(t, tr, name, string(content), 0o755)
	}
	return tr, libraries
}

func check(t *testing.T, tr *tree.Tree, goarch, name string, env map[string]string) error {
	t.Helper()
	c, err := New(tr, goarch)
	if err != nil {
		t.Fatal(err)
	}
	return c.Check(name, env)
}

// TestBinary removes each library of a program of this computer in turn. The error must name the
// library, unless the search path contains a copy.
func TestBinary(t *testing.T) {
	const sh = "/bin/ls"
	tr, libraries := fromHere(t, sh)
	if err := check(t, tr, runtime.GOARCH, sh, nil); err != nil {
		t.Fatal(err)
	}
	other := map[string]string{arch.AMD64: arch.ARM64, arch.ARM64: arch.AMD64}[runtime.GOARCH]
	if err := check(t, tr, other, sh, nil); err == nil || !strings.Contains(err.Error(), "take the file for "+other) {
		t.Errorf("for another processor: %v", err)
	}
	for _, library := range libraries {
		tr, _ := fromHere(t, sh)
		tr.Remove(library)
		want := sh
		if !strings.Contains(library, "/ld-") {
			want = "needs the library " + filepath.Base(library) + ", which is not in the image"
		} else {
			want += " needs the dynamic loader"
		}
		if err := check(t, tr, runtime.GOARCH, sh, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v, want %q", library, err, want)
		}
		content, err := os.ReadFile(library)
		if err != nil {
			t.Fatal(err)
		}
		put(t, tr, "opt/own/"+filepath.Base(library), string(content), 0o644)
		if strings.Contains(library, "/ld-") {
			continue
		}
		if err := check(t, tr, runtime.GOARCH, sh, map[string]string{"LD_LIBRARY_PATH": "/none:/opt/own"}); err != nil {
			t.Errorf("with %s in LD_LIBRARY_PATH: %v", library, err)
		}
		put(t, tr, "etc/ld.so.conf.d/own.conf", "# ours\n/opt/own\n", 0o644)
		if err := check(t, tr, runtime.GOARCH, sh, nil); err != nil {
			t.Errorf("with %s by ld.so.conf: %v", library, err)
		}
	}
}

func TestScripts(t *testing.T) {
	tr := tree.New()
	for name, content := range map[string]string{
		"bin/text": "whatever", "usr/bin/env": "x", "usr/bin/python3": "x", "usr/bin/good": "#!/bin/text -e\n", "usr/bin/bad": "#!/bin/none\n",
		"usr/bin/python": "#!/usr/bin/env python3\n", "usr/bin/wants-perl": "#! /usr/bin/env perl\n", "usr/bin/dashed": "#!/usr/bin/env -S perl -w\n",
		"loop": "#!/loop\n", "usr/bin/endless": "#!" + strings.Repeat("/", 5000), "usr/bin/empty": "", "usr/bin/bare": "#!\n",
	} {
		put(t, tr, name, content, 0o755)
	}
	put(t, tr, "usr/bin/data", "x", 0o644)
	if err := tr.Put("usr/bin/link", &tree.Inode{Mode: tree.S_IFLNK | 0o777, Target: "../../bin/text"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/usr/bin/good": "", "/usr/bin/link": "", "/usr/bin/python": "", "/usr/bin/dashed": "", "/usr/bin/empty": "", "/usr/bin/bare": "", "/usr/bin/endless": "",
		"/usr/bin/bad":        "/usr/bin/bad is a script: /bin/none is not in the image: add the package",
		"/usr/bin/wants-perl": "is a script for perl, which is not in /bin:/usr/bin: add its package",
		"/usr/bin/none":       "/usr/bin/none is not in the image: add the package that has it to packages.install, or the file itself to files or copy",
		"/usr/bin/data":       `is not executable: give it the mode "0755"`,
		"/usr/bin":            "is not a file",
		"/loop":               "is a script of scripts",
	} {
		err := check(t, tr, "arm64", name, map[string]string{"PATH": "/bin:/usr/bin"})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestAlpine checks every program of Alpine's root file systems, which musl's loader starts.
func TestAlpine(t *testing.T) {
	dir := os.Getenv("SOV_ALPINE_FIXTURES")
	if dir == "" {
		t.Skip("SOV_ALPINE_FIXTURES names no folder with Alpine's archives")
	}
	for _, a := range arch.All() {
		found, err := filepath.Glob(filepath.Join(dir, "alpine-minirootfs-*-"+a.Alpine+".tar.gz"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no archive for %s: %v", a.Alpine, err)
		}
		packed, err := os.Open(found[0])
		if err != nil {
			t.Fatal(err)
		}
		defer packed.Close()
		z, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		tr := tree.New()
		if err := tr.ApplyTar(bytes.NewReader(plain), int64(len(plain)), tree.TarOptions{}); err != nil {
			t.Fatal(err)
		}
		c, err := New(tr, a.Go)
		if err != nil {
			t.Fatal(err)
		}
		programs := 0
		err = tr.Walk(func(p string, n *tree.Inode) error {
			if n.IsRegular() && n.Mode&0o111 != 0 && strings.Contains("/"+p, "bin/") {
				programs++
				if err := c.Check("/"+p, nil); err != nil {
					t.Errorf("%s: %v", a.Go, err)
				}
			}
			return nil
		})
		if err != nil || programs < 5 {
			t.Errorf("%s: %d programs, %v", a.Go, programs, err)
		}
	}
}

// FuzzBinary checks files that only resemble programs.
func FuzzBinary(f *testing.F) {
	content, err := os.ReadFile("/bin/ls")
	if err != nil {
		f.Skip(err)
	}
	f.Add(content[:64])
	f.Add(content[:min(len(content), 8<<10)])
	f.Add([]byte("#!/bin/x\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		tr := tree.New()
		put(t, tr, "bin/x", string(content), 0o755)
		defer costtest.Text.Watch(t, len(content))()
		c, err := New(tr, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Check("/bin/x", map[string]string{"PATH": "/bin"})
	})
}
