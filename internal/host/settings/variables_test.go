package settings

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	top      = "../../.."
	document = top + "/docs/configuration.md"
)

// TestVariablesAreDocumented: the code and the table of docs/configuration.md have the same
// environment variables.
func TestVariablesAreDocumented(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n## All environment variables\n")
	if !found {
		t.Fatalf("%s has no table of variables", document)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			documented[m[1]] = true
		}
	}
	read := variablesRead(t)
	for name, file := range read {
		if !documented[name] {
			t.Errorf("%s reads %s, and the table of docs/configuration.md lacks it", file, name)
		}
	}
	for name := range documented {
		if read[name] == "" {
			t.Errorf("docs/configuration.md has %s, which nothing reads", name)
		}
	}
}

// variablesRead returns the names of variables, each with a file that uses it. They are literals in
// calls of Getenv, LookupEnv or getenv, and literals that can only be a variable's name.
func variablesRead(t *testing.T) map[string]string {
	t.Helper()
	read := map[string]string{}
	// sov sets the environment of the phone's and the guest's programs, and tests set that of
	// simulated phones.
	elsewhere := []string{"internal/phone", "internal/guest", "internal/testkit/androidtest", "internal/testkit/phonetest"}
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		inside, _ := filepath.Rel(top, path)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (slices.Contains(elsewhere, inside) || entry.Name() == "testdata" || inside != "." && strings.HasPrefix(entry.Name(), ".")):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if name := literal(n); regexp.MustCompile(`^(SOV|CI|GITHUB)_[A-Z_]+$`).MatchString(name) {
					read[name] = inside
				}
			case *ast.CallExpr:
				if slices.Contains([]string{"Getenv", "LookupEnv", "getenv"}, called(n)) && len(n.Args) == 1 {
					if name := literal(n.Args[0]); name != "" {
						read[name] = inside
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func literal(n ast.Expr) string {
	if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
		text, _ := strconv.Unquote(l.Value)
		return text
	}
	return ""
}

// TestSettingsAreDocumented: the settings match their table, and Load accepts the example file.
func TestSettingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| `(--[a-z-]+)` \\| `([A-Z_]+)` \\|").FindAllStringSubmatch(string(text), -1)
	if len(rows) != len(All) {
		t.Fatalf("%d rows for %d settings", len(rows), len(All))
	}
	for i, s := range All {
		if rows[i][1] != s.Key || rows[i][2] != s.Flag || rows[i][3] != s.Variable {
			t.Errorf("row %d is %q, want %s %s %s", i, rows[i][1:], s.Key, s.Flag, s.Variable)
		}
	}
	_, example, _ := strings.Cut(string(text), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	getenv, _ := env(t, example)
	s, err := Load(getenv)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range All {
		if s.Get(setting.Key).From != FromFile {
			t.Errorf("the example does not set %s", setting.Key)
		}
	}
	if keys := slices.Sorted(maps.Keys(s.values)); len(keys) != len(All) {
		t.Errorf("the example sets %v", keys)
	}
}

// TestDocumentedFile: Load accepts the file in docs/configuration.md, which has every key.
func TestDocumentedFile(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	block, _, _ := strings.Cut(rest, "```")
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(block), 0o600); err != nil || !found {
		t.Fatal(found, err)
	}
	s, err := Load(func(name string) string { return map[string]string{"SOV_CONFIG": path, "HOME": "/home/you"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range All {
		if s.Get(setting.Key).Values == nil {
			t.Errorf("the file lacks %s", setting.Key)
		}
	}
}
