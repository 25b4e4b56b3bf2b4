package internal

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// commentWidth is how many characters a line may have that is a comment and nothing else.
const commentWidth = 100

// wideComments returns the lines of Go source that are a comment wider than commentWidth.
// Directives such as //go:generate cannot be wrapped.
func wideComments(source []byte) (lines []int) {
	fset := token.NewFileSet()
	file := fset.AddFile("", fset.Base(), len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	for last := 0; ; {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return lines
		}
		at := file.Position(pos)
		alone := at.Line != last
		last = at.Line
		if tok == token.STRING {
			last += strings.Count(text, "\n")
		}
		if tok == token.COMMENT && alone && strings.HasPrefix(text, "// ") && at.Column-1+utf8.RuneCountInString(text) > commentWidth {
			lines = append(lines, at.Line)
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
		for _, line := range wideComments(source) {
			t.Errorf("%s:%d: the comment is wider than %d columns: wrap it", name, line, commentWidth)
		}
		return nil
	})
	if err != nil || read < 100 {
		t.Errorf("%d files were read: %v", read, err)
	}
}

func TestWideComments(t *testing.T) {
	wide := "// " + strings.Repeat("é", commentWidth-2)
	fits := "// " + strings.Repeat("é", commentWidth-3)
	source := "package p\n\n" + fits + "\n" + wide + "\n//go:generate " + wide + "\nvar s = `\n" + wide + "\n` " + wide + "\n\t" + wide + "\n"
	if got := wideComments([]byte(source)); !slices.Equal(got, []int{4, 9}) {
		t.Errorf("lines %v are found, want 4 and 9", got)
	}
}
