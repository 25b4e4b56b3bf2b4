package internal

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	// unwanted matches pronouns in place of a person's or program's name, an adverb for "again",
	// and a negated noun ("is no file") in place of a negated verb ("is not a file").
	unwanted = regexp.MustCompile(`(?i)\b(?:(?:no|some|any|every)body|wh[oa]t?m?ever (?:is|has|comes)|whoever|anew|(there )?(?:is|are|was|were) no (\w+))\b`)
	compared = regexp.MustCompile(`^(?:longer|more|less|\w+er)$`) // "is no longer", "is no larger than"
	code     = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

// wording returns the words of a text that readers would have to read twice.
func wording(text string) (found []string) {
	for _, at := range unwanted.FindAllStringSubmatchIndex(text, -1) {
		m := unwanted.FindStringSubmatch(text[at[0]:at[1]])
		account := strings.HasPrefix(text[at[1]:], ":") // in /etc/passwd
		if m[1] == "" && !compared.MatchString(m[2]) && !account {
			found = append(found, m[0])
		}
	}
	return found
}

// TestWording: documents, scripts, recipes, and the help and errors in Go name persons and things,
// and negate verbs.
func TestWording(t *testing.T) {
	texts := map[string]int{} // the number of texts, by their file's extension
	look := func(name, text string) {
		texts[filepath.Ext(name)]++
		for _, words := range wording(text) {
			t.Errorf("%s: %q: name who or what it is, or negate the verb", name, words)
		}
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "../")
		if d.IsDir() && slices.Contains([]string{"out", "bin", "dist", ".git"}, name) {
			return filepath.SkipDir
		}
		if d.IsDir() || strings.Contains(name, "testdata/") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		switch ext := filepath.Ext(name); {
		case ext == ".go", ext == ".md", ext == ".yaml", ext == ".yml", ext == ".sh", strings.HasPrefix(name, ".ci/"):
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if ext != ".go" {
				look(name, code.ReplaceAllString(string(content), ""))
				return nil
			}
			for _, s := range literals(content) {
				look(name, s)
			}
		}
		return nil
	})
	if err != nil || texts[".go"] < 3000 || texts[".md"] < 25 || texts[".yaml"] < 5 {
		t.Errorf("%v texts were read: %v", texts, err)
	}
}

// literals returns the strings of Go source.
func literals(source []byte) (found []string) {
	var s scanner.Scanner
	fset := token.NewFileSet()
	s.Init(fset.AddFile("", fset.Base(), len(source)), source, nil, 0)
	for {
		_, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return found
		case token.STRING:
			if value, err := strconv.Unquote(text); err == nil {
				found = append(found, value)
			}
		}
	}
}

func TestUnwantedWords(t *testing.T) {
	for text, want := range map[string]int{
		"Whoever builds it, and nobody else": 2, "build it anew": 1, "%s is no file": 1, "whatever comes": 1,
		"there is no file": 0, "nobody:x:65534:65534:nobody:/": 0, "it is no longer there, and is no larger": 0, "what a body": 0,
	} {
		if got := wording(text); len(got) != want {
			t.Errorf("%q: %q, want %d", text, got, want)
		}
	}
}
