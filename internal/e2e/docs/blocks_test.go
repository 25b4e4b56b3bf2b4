package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A command is one line, or several lines joined by a quotation or a backslash.
type command struct {
	at     string // file:line
	text   string
	output []string // what the document shows of its output, or nil
}

// A block is a code block of a document.
type block struct {
	at       string // file:line
	run      bool
	needs    []string
	except   map[string]string // reasons by text of a command
	status   map[string][]int  // expected exit statuses by text of a command
	commands []command
}

var (
	fence    = regexp.MustCompile("^ *(```+|~~~+) *([a-z]*)")
	listItem = regexp.MustCompile(`^ *([-*+]|\d+\.) +`)
	comment  = regexp.MustCompile(`^ *<!-- (.*) -->$`)
	class    = regexp.MustCompile(`^(run:|not run:|text$)`)
)

const howToMark = "write a comment before it: <!-- run: NEED -->, <!-- not run: REASON --> or <!-- text --> (see the documentation of internal/e2e/docs)"

// blocks returns the code blocks of a document. faults are the errors in the document, each with
// its line and what to do.
func blocks(path, name string) (found []block, faults []error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, []error{err}
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	mark := ""   // the last class, until text that is not a comment and not empty
	content := 0 // columns by which the content of the enclosing list item is indented
	add := func(first int, body []string, language string) {
		b := block{at: fmt.Sprintf("%s:%d", name, first+1)}
		if mark == "" && language != "" && language != "sh" && language != "bash" && language != "console" {
			return
		}
		err := b.classify(mark)
		if err == nil && mark != "text" {
			b.commands, err = commands(name, first, body)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", b.at, err))
		} else if mark != "text" {
			found = append(found, b)
		}
		mark = ""
	}
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		indent := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case strings.TrimSpace(line) == "":
		case fence.MatchString(line) && indent < content+4:
			open := fence.FindStringSubmatch(line)
			first := i + 1
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != open[1]; i++ {
			}
			add(first, unindent(lines[first:min(i, len(lines))], indent), open[2])
		case indent >= content+4 && i > 0 && strings.TrimSpace(lines[i-1]) == "":
			first, end := i, i+1
			for i++; i < len(lines); i++ {
				if blank := strings.TrimSpace(lines[i]) == ""; !blank && !strings.HasPrefix(lines[i], strings.Repeat(" ", content+4)) {
					break
				} else if !blank {
					end = i + 1
				}
			}
			i = end - 1
			add(first, unindent(lines[first:end], content+4), "")
		default:
			if found := comment.FindStringSubmatch(line); found != nil {
				if class.MatchString(found[1]) {
					mark = found[1]
				}
				continue
			}
			mark = ""
			if indent < content {
				content = 0
			}
			if item := listItem.FindString(line); item != "" {
				content = len(item)
			}
		}
	}
	return found, faults
}

func unindent(lines []string, columns int) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = strings.TrimPrefix(line, strings.Repeat(" ", min(columns, len(line)-len(strings.TrimLeft(line, " ")))))
	}
	return out
}

// classify parses the comment before a block.
func (b *block) classify(mark string) error {
	b.except, b.status = map[string]string{}, map[string][]int{}
	rest, run := strings.CutPrefix(mark, "run:")
	reason, not := strings.CutPrefix(mark, "not run:")
	switch {
	case mark == "text":
		return nil
	case not && strings.TrimSpace(reason) != "":
		return nil
	case !run:
		return fmt.Errorf("a code block without a class: %s", howToMark)
	}
	b.run = true
	parts := strings.Split(rest, ";")
	for need := range strings.SplitSeq(parts[0], ",") {
		need = strings.TrimSpace(need)
		if _, ok := needs[need]; !ok {
			return fmt.Errorf("the block needs %q, which no test provides: see needs in internal/e2e/docs", need)
		}
		b.needs = append(b.needs, need)
	}
	for _, part := range parts[1:] {
		what, after, ok := strings.Cut(strings.TrimSpace(part), ": ")
		text, except := strings.CutPrefix(what, "except ")
		numbers, status := strings.CutPrefix(what, "status ")
		switch {
		case ok && except:
			b.except[text] = after
		case ok && status:
			for number := range strings.SplitSeq(numbers, "/") {
				n, err := strconv.Atoi(number)
				if err != nil {
					return fmt.Errorf("%q in the comment before the block: %s", part, howToMark)
				}
				b.status[after] = append(b.status[after], n)
			}
		default:
			return fmt.Errorf("%q in the comment before the block: %s", part, howToMark)
		}
	}
	return nil
}

// commands splits a block into commands. A block that begins with "$ " is a transcript.
func commands(name string, first int, body []string) (out []command, err error) {
	transcript := strings.HasPrefix(body[0], "$ ")
	for i := 0; i < len(body); i++ {
		line, prompted := strings.CutPrefix(body[i], "$ ")
		if transcript && !prompted {
			c := &out[len(out)-1]
			c.output = append(c.output, body[i])
			continue
		}
		if trimmed := strings.TrimSpace(line); trimmed == "" || strings.HasPrefix(trimmed, "#") && i > 0 {
			continue
		}
		c := command{at: fmt.Sprintf("%s:%d", name, first+i+1), text: line}
		for !complete(c.text) {
			if i++; i == len(body) {
				return nil, fmt.Errorf("a command of the shell does not end: %s", c.text)
			}
			c.text += "\n" + body[i]
		}
		if strings.HasPrefix(c.text, "#!") { // a script: the rest of the block is one command
			c.text = strings.Join(body[i:], "\n")
			i = len(body)
		}
		out = append(out, c)
	}
	return out, nil
}

// complete reports whether a shell would run text without waiting for more.
func complete(text string) bool {
	if strings.HasSuffix(text, `\`) {
		return false
	}
	out, err := exec.Command("bash", "-nc", text).CombinedOutput()
	return err == nil && !strings.Contains(string(out), "here-document") || !strings.Contains(string(out), "unexpected EOF") && !strings.Contains(string(out), "unexpected end of file") && !strings.Contains(string(out), "here-document")
}

// documents returns the paths of all documents, relative to root.
func documents(root string) ([]string, error) {
	paths := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}
	for _, dir := range []string{"docs", "examples"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err == nil && filepath.Ext(path) == ".md" {
				var rel string
				rel, err = filepath.Rel(root, path)
				paths = append(paths, rel)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return paths, nil
}
