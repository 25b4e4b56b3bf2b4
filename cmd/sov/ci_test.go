package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// ciFiles are the CI recipes for users and the project's own workflow.
var ciFiles = []string{"../../.github/workflows/ci.yml", "../../docs/ci/github.yml", "../../docs/ci/gitlab.yml"}

// scripts returns every shell script of a CI recipe: GitHub's run, GitLab's script and
// before_script.
func scripts(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var content any
	if err := yaml.Unmarshal(text, &content); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var found []string
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, v := range v {
				walk(name, v)
			}
		case []any:
			var lines []string
			for _, v := range v {
				if line, ok := v.(string); ok {
					lines = append(lines, line)
				} else {
					walk("", v)
				}
			}
			if name == "script" || name == "before_script" {
				found = append(found, strings.Join(lines, "\n"))
			}
		case string:
			if name == "run" {
				found = append(found, v)
			}
		}
	}
	walk("", content)
	if len(found) < 3 {
		t.Fatalf("%s has %d scripts", path, len(found))
	}
	slices.Sort(found)
	return found
}

// githubExpression matches an expression that GitHub expands.
var githubExpression = regexp.MustCompile(`\$\{\{[^}]*\}\}`)

// TestCIScripts runs shellcheck on the scripts of the CI recipes.
func TestCIScripts(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("shellcheck is not installed")
	}
	for _, path := range ciFiles {
		for _, script := range scripts(t, path) {
			c := exec.Command("shellcheck", "--shell", "bash", "-")
			c.Stdin = strings.NewReader(githubExpression.ReplaceAllString(script, "value"))
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", path, err, script, out)
			}
		}
	}
}

// sovCommand matches a call of sov in a script, up to the end of the command.
var sovCommand = regexp.MustCompile(`(?m)(?:^|[;&|(]|\bthen\b|\bdo\b)\s*(?:[A-Z_]+="[^"]*" )*(?:bin/)?sov ((?:"[^"]*"|'[^']*'|[^;&|)"'\n])*)`)

// variable matches a shell variable.
var variable = regexp.MustCompile(`\$\{?[A-Za-z_]+\}?`)

// words splits a simple command into words without quotes.
func words(command string) []string {
	var out []string
	for _, w := range regexp.MustCompile(`(?:"[^"]*"|'[^']*'|[^\s"'])+`).FindAllString(command, -1) {
		out = append(out, strings.NewReplacer(`"`, "", "'", "").Replace(w))
	}
	return out
}

// checkCommand returns an error if a command line of sov is invalid. It does not run the command.
func checkCommand(args []string) error {
	root := newRoot()
	root.InitDefaultCompletionCmd()
	command, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := command.ParseFlags(rest); err != nil {
		return err
	}
	return command.ValidateArgs(command.Flags().Args())
}

// TestCICommands verifies that every call of sov in a CI recipe is a valid command line.
func TestCICommands(t *testing.T) {
	for _, path := range ciFiles {
		n := 0
		for _, script := range scripts(t, path) {
			script = variable.ReplaceAllString(githubExpression.ReplaceAllString(script, "arm64"), "arm64")
			for _, call := range sovCommand.FindAllStringSubmatch(script, -1) {
				n++
				if err := checkCommand(words(call[1])); err != nil {
					t.Errorf("%s: sov %s: %v", path, call[1], err)
				}
			}
		}
		if n < 4 {
			t.Errorf("%s calls sov %d times only", path, n)
		}
	}
	for _, bad := range []string{"run one two", "build sql --no-such-flag", "cache no-such-verb", "verify"} {
		if checkCommand(words(bad)) == nil {
			t.Errorf("sov %s is taken for good", bad)
		}
	}
}
