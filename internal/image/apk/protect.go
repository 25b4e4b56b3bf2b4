package apk

import (
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A protectRule says whether apk preserves local changes to the files in the directories that match
// a pattern: "+" if changed, "!" always, "@" symbolic links only, "-" never.
type protectRule struct {
	mode    byte
	pattern []string // by path component
}

// protectedPathsDir holds lists of further rules.
const protectedPathsDir = "etc/apk/protected_paths.d"

// protectRules returns apk's built-in rules and those of the tree.
func protectRules(t *tree.Tree) ([]protectRule, error) {
	rules := []protectRule{{'+', []string{"etc"}}, {'@', []string{"etc", "init.d"}}, {'!', []string{"etc", "apk"}}}
	_, dir, err := t.Resolve(protectedPathsDir)
	if err != nil {
		return rules, nil // there is none
	}
	for _, e := range dir.Entries() {
		if !strings.HasSuffix(e.Name, ".list") {
			continue
		}
		text, err := readFile(t, protectedPathsDir+"/"+e.Name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				rules = append(rules, parseProtectRule(line))
			}
		}
	}
	return rules, nil
}

func parseProtectRule(line string) protectRule {
	mode := byte('+')
	if strings.IndexByte("-+@!", line[0]) >= 0 {
		mode, line = line[0], line[1:]
	}
	return protectRule{mode, strings.Split(strings.Trim(line, "/"), "/")}
}

// protects reports whether changed files in dir are kept. The last matching rule applies; without
// one, that of the parent directory.
func protects(rules []protectRule, dir string) bool {
	mode := byte('-')
	parts := strings.Split(dir, "/")
	for n := 1; n <= len(parts); n++ {
		for _, r := range rules {
			if r.matches(parts[:n]) {
				mode = r.mode
			}
		}
	}
	return mode != '-'
}

func (r protectRule) matches(parts []string) bool {
	return slices.EqualFunc(r.pattern, parts, func(pattern, part string) bool {
		ok, err := path.Match(pattern, part)
		return ok && err == nil
	})
}
