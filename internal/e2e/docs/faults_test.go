package docs

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

// TestFaults checks that an error in a document is reported with file, line, command and what to
// do.
func TestFaults(t *testing.T) {
	c := newComputer(t)
	for name, test := range map[string]struct{ text, want string }{
		"no class":             {"\n    sov version\n", "doc.md:2: a code block without a class: write a comment before it"},
		"a need of no test":    {"<!-- run: moon -->\n\n    sov version\n", `doc.md:3: the block needs "moon"`},
		"no reason":            {"<!-- not run: -->\n\n    sov version\n", "doc.md:3: a code block without a class"},
		"half a command":       {"<!-- run: sov -->\n\n    echo 'one\n", "doc.md:3: a command of the shell does not end"},
		"an unknown flag":      {"<!-- run: sov -->\n\n    true\n    sov version --verbos\n", "doc.md:4: sov version --verbos\nexit status 2"},
		"one that is not run":  {"<!-- not run: it takes long -->\n\n    sov build sql --chek-reproducible   # twice\n", "doc.md:3: sov build sql --chek-reproducible"},
		"one that is excepted": {"<!-- run: sov; except push: no phone -->\n\n    sov push sql --strat\n", "doc.md:3: sov push sql --strat\nexit status 2"},
		"another output":       {"<!-- run: sov -->\n```console\n$ echo 12 ms; echo two\n34 ms\nthree\n```\n", `it does not print the line "three"`},
		"more output":          {"<!-- run: sov -->\n```console\n$ echo 12 ms; echo two\n34 ms\n```\n", "it prints more than the document shows"},
		"in a list":            {"1. First:\n\n   <!-- run: sov -->\n\n       false\n", "doc.md:5: false\nexit status 1"},
		"another status":       {"<!-- run: sov; status 3: true -->\n\n    true\n", "exit status 0, not [3]"},
		"lines that are left out": {"<!-- run: sov; status 3: exit -->\n```console\n$ echo one; echo two; echo three\n…\nthree\n$ exit 3\n```\n" +
			"<!-- text -->\n\n    no command\n\n```yaml\nname: x\n```\n", ""},
		"what goes on in a block": {"<!-- run: sov -->\n\n    x=1 && mkdir -p d && cd d\n    [ $x = 1 ] && [ $(basename $PWD) = d ]\n\nText.\n\n<!-- run: sov -->\n\n    [ -d d ] && [ -z \"$x\" ]\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "doc.md")
			if err := os.WriteFile(path, []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			found, faults := blocks(path, "doc.md")
			r := c.reader(t)
			for _, b := range found {
				if err := r.read(b); err != nil {
					faults = append(faults, err)
				}
			}
			err := errors.Join(faults...)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	notASlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the headings of a document as GitHub names them in links.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		found[strings.ReplaceAll(notASlug.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return found
}

// TestLinks checks that every link between documents leads to an existing file and heading.
func TestLinks(t *testing.T) {
	root := sovtest.Root()
	paths, err := documents(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, "CHANGELOG.md") {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range link.FindAllStringSubmatch(string(text), -1) {
			to, anchor, _ := strings.Cut(l[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			target := filepath.Join(root, filepath.Dir(path), to)
			if to == "" {
				target = filepath.Join(root, path)
			}
			if info, err := os.Stat(target); err != nil || anchor == "" || info.IsDir() {
				if err != nil {
					t.Errorf("%s links to %s, which does not exist", path, l[1])
				}
				continue
			}
			there, err := os.ReadFile(target)
			if err != nil || !anchors(string(there))[anchor] {
				t.Errorf("%s links to %s: there is no such heading", path, l[1])
			}
		}
	}
}

var version = regexp.MustCompile(`^v?\d+\.\d+\.\d+( — (\d{4}-\d{2}-\d{2}|unreleased))?$`)

// TestChangelog checks that every heading is a version with its date, and that only the first may
// be unreleased.
func TestChangelog(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(sovtest.Root(), "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(string(text), -1) {
		if !version.MatchString(h[1]) || !strings.Contains(h[1], " — ") || i > 0 && strings.HasSuffix(h[1], "unreleased") {
			t.Errorf("## %s: must be ## VERSION — YYYY-MM-DD, or — unreleased for the first", h[1])
		}
	}
}

var codeSpan = regexp.MustCompile("`(sov [^`|<>$(…]+)`")

// TestProse checks that sov accepts the verbs and flags of commands in sentences and tables.
func TestProse(t *testing.T) {
	root := sovtest.Root()
	paths, err := documents(root)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range paths {
		if _, ok := elsewhere[path]; ok {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, span := range codeSpan.FindAllStringSubmatch(line, -1) {
				if seen[span[1]] {
					continue
				}
				seen[span[1]] = true
				own, _, _ := strings.Cut(span[1], " -- ")
				args := strings.Fields(own)[1:]
				o := sovtest.Run(t, nil, append(args, "--help")...)
				if o.Status != 0 && strings.HasPrefix(args[len(args)-1], "-") { // the document names the flag without a value
					o = sovtest.Run(t, nil, append(args, "1", "--help")...)
				}
				if o.Status != 0 {
					t.Errorf("%s:%d: %s: %s", path, i+1, span[1], o.Stderr)
				}
			}
		}
	}
	if len(seen) < 50 {
		t.Errorf("found %d commands only", len(seen))
	}
}

var (
	goTest      = regexp.MustCompile(`\bgo test [^\n#` + "`" + `]*`)
	testsToRun  = regexp.MustCompile(` -run '?([\w|]+)`)
	testPackage = regexp.MustCompile(` \./([\w/]+)`)
)

// TestNamedTests checks that the tests which documents run by name exist. The go command does not
// report a test that does not exist.
func TestNamedTests(t *testing.T) {
	root := sovtest.Root()
	paths, err := documents(root)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, path := range paths {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range goTest.FindAllString(string(text), -1) {
			run, folder := testsToRun.FindStringSubmatch(command), testPackage.FindStringSubmatch(command)
			if run == nil || folder == nil {
				continue
			}
			files, err := filepath.Glob(filepath.Join(root, folder[1], "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			var source strings.Builder
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				source.Write(text)
			}
			for name := range strings.SplitSeq(run[1], "|") {
				named++
				if !strings.Contains(source.String(), "func "+name+"(t *testing.T)") {
					t.Errorf("%s: %s: ./%s has no test %s", path, command, folder[1], name)
				}
			}
		}
	}
	if named < 6 {
		t.Errorf("only %d tests are named: did it look at all?", named)
	}
}
