package internal

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityDoc: the tests that docs/security.md names exist.
func TestSecurityDoc(t *testing.T) {
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	err = filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllSubmatch(text, -1)
	if len(named) < 40 {
		t.Errorf("it names %d tests only: was it read?", len(named))
	}
	for _, m := range named {
		if !bytes.Contains(all.Bytes(), append([]byte("func "), append(m[1], '(')...)) {
			t.Errorf("docs/security.md names %s, which does not exist", m[1])
		}
	}
}
