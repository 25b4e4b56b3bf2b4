package internal

import (
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// commentWidth is the maximum width, in characters, of a line that has only a comment.
const commentWidth = 100

// vagueWord matches words that comments must not use: name the program, role or process instead.
var vagueWord = regexp.MustCompile(`(?i)\b(whoever|somebody|anybody|everybody|everyone|anyone)\b`)

// A fault is a line of Go source whose comment breaks a rule.
type fault struct {
	line int
	what string
}

// commentFaults returns the comments of Go source that are wider than commentWidth or contain a
// vagueWord. Directives such as //go:generate cannot be wrapped.
func commentFaults(source []byte) (faults []fault) {
	fset := token.NewFileSet()
	file := fset.AddFile("", fset.Base(), len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	for last := 0; ; {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return faults
		}
		at := file.Position(pos)
		alone := at.Line != last
		last = at.Line
		if tok == token.STRING {
			last += strings.Count(text, "\n")
		}
		if tok != token.COMMENT {
			continue
		}
		if alone && strings.HasPrefix(text, "// ") && at.Column-1+utf8.RuneCountInString(text) > commentWidth {
			faults = append(faults, fault{at.Line, fmt.Sprintf("is wider than %d columns: wrap it", commentWidth)})
		}
		if word := vagueWord.FindString(text); word != "" {
			faults = append(faults, fault{at.Line, fmt.Sprintf("has %q: name the program, role or process", word)})
		}
	}
}

func TestComments(t *testing.T) {
	read := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "../")
		if d.IsDir() && slices.Contains([]string{"out", "bin", ".git"}, name) {
			return filepath.SkipDir
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		for _, f := range commentFaults(source) {
			t.Errorf("%s:%d: the comment %s", name, f.line, f.what)
		}
		return nil
	})
	if err != nil || read < 100 {
		t.Errorf("%d files were read: %v", read, err)
	}
}

func TestCommentFaults(t *testing.T) {
	wide := "// " + strings.Repeat("é", commentWidth-2)
	fits := "// " + strings.Repeat("é", commentWidth-3)
	vague := "// It serves Every" + "one."
	source := "package p\n\n" + fits + "\n" + wide + "\n//go:generate " + wide + "\nvar s = `\n" + wide + "\n" + vague + "\n` " + wide + "\n\t" + wide + "\n" + vague + "\nvar anyone, n = 1, 2 " + vague + "\n"
	var lines []int
	for _, f := range commentFaults([]byte(source)) {
		lines = append(lines, f.line)
	}
	if !slices.Equal(lines, []int{4, 10, 11, 12}) {
		t.Errorf("lines %v are found, want 4, 10, 11 and 12", lines)
	}
}
