package mirror

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDebianSource(t *testing.T) {
	for name, tt := range map[string]struct{ file, text, want string }{
		"stanzas": {"sources.list.d/x.sources", "# comment\nTypes: deb\nURIs: http://a.example/debian-security\n\nTypes: deb deb-src\nURIs: http://a.example/debian/\nSuites: old\nSigned-By: /k.gpg\n",
			"deb [signed-by=/k.gpg] http://a.example/debian/ new main\n"},
		"sources alone":     {"sources.list.d/x.sources", "Types: deb-src\nURIs: http://a.example/debian\n", ""},
		"a line":            {"sources.list", "# deb http://b.example/debian x\ndeb http://a.example/debian old main\n", "deb http://a.example/debian new main\n"},
		"a line, options":   {"sources.list.d/x.list", "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian old main\n", "deb [signed-by=/k.gpg] http://a.example/debian new main\n"},
		"another publisher": {"sources.list.d/x.list", "deb https://a.example/repo old main\n", ""},
		"another file":      {"sources.list.d/x.list.save", "deb http://a.example/debian old main\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tt.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := debianSource(dir)
			if got := s.of("new"); err == nil && got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
