package canary

import (
	"archive/zip"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCanaryIsFound checks that a search finds the canary, so that an empty result means that no
// secret leaked.
func TestCanaryIsFound(t *testing.T) {
	c := New()
	dir := t.TempDir()
	far := make([]byte, 1<<20+64)
	copy(far[1<<20-5:], c.Text)
	for name, content := range map[string][]byte{
		"plain": []byte("x" + c.Text), "across buffers": far, "hex": []byte(hex.EncodeToString([]byte("x" + c.Text))),
		"base64-0": []byte(base64.StdEncoding.EncodeToString([]byte("abc" + c.Text + "x"))),
		"base64-1": []byte(base64.StdEncoding.EncodeToString([]byte("a" + c.Text + "xy"))),
		"base64-2": []byte(base64.StdEncoding.EncodeToString([]byte("ab" + c.Text))),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	if _, err := sparse.WriteAt([]byte(c.Text), 8<<30); err != nil {
		t.Fatal(err)
	}
	packed, err := os.Create(filepath.Join(dir, "packed.zip"))
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(packed)
	entry, err := w.Create("entry")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(entry, c.Text)
	if err := errors.Join(w.Close(), packed.Close(), os.WriteFile(filepath.Join(dir, "innocent"), []byte(c.Text[1:]), 0o600)); err != nil {
		t.Fatal(err)
	}
	if found := c.InFiles(t, time.Time{}, dir); len(found) != 8 {
		t.Errorf("found in %q, want all but innocent", found)
	}
	for name, prepare := range map[string]func(*exec.Cmd){
		"cmdline": func(p *exec.Cmd) { p.Args[0] = c.Text },
		"environ": func(p *exec.Cmd) { p.Env = []string{"X=" + c.Text} },
	} {
		p := exec.CommandContext(t.Context(), "cat")
		prepare(p)
		hold, err := p.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if found := c.InProcesses(t); len(found) != 1 || !strings.Contains(found[0], fmt.Sprintf("/proc/%d/%s", p.Process.Pid, name)) {
			t.Errorf("%s: found %q", name, found)
		}
		hold.Close()
		p.Wait()
	}
}
