package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// A workflow is the part of a GitHub workflow that these tests check.
type workflow struct {
	Permissions map[string]string `yaml:"permissions"`
	Env         map[string]string `yaml:"env"`
	Jobs        map[string]struct {
		If          string            `yaml:"if"`
		Permissions map[string]string `yaml:"permissions"`
		Env         map[string]string `yaml:"env"`
		Steps       []step            `yaml:"steps"`
	} `yaml:"jobs"`
}

type step struct {
	If   string            `yaml:"if"`
	Uses string            `yaml:"uses"`
	Run  string            `yaml:"run"`
	With map[string]any    `yaml:"with"`
	Env  map[string]string `yaml:"env"`
}

var (
	// pinnedAction matches an action with a commit. A tag can be moved.
	pinnedAction = regexp.MustCompile(`^[a-z0-9-]+/[a-z0-9/-]+@[0-9a-f]{40}$`)
	// confidential matches an expression for a token or key.
	confidential = regexp.MustCompile(`secrets\.[A-Za-z_]+|github\.token|secrets\.GITHUB_TOKEN`)
	// upload matches a write to a remote cache.
	upload = regexp.MustCompile(`--cache-to|cache push|SOV_CACHE_TO`)
)

// needs maps a token or key to the commands that need it.
var needs = map[string]*regexp.Regexp{
	"github.token":          regexp.MustCompile(`\bgh (release|attestation)\b|\bsov build\b|^make test$`),
	"secrets.SOV_CACHE_KEY": upload,
	"secrets.SIGNING_KEY":   regexp.MustCompile(`\bsov sign\b`),
	"secrets.RELEASE_KEY":   regexp.MustCompile(`\bopenssl pkeyutl -sign\b`),
}

// ownOnly reports whether a condition limits a job to pushes and tags of this repository.
func ownOnly(condition string) bool {
	return condition == "github.event_name == 'push'" || condition == "startsWith(github.ref, 'refs/tags/')"
}

// workflowFaults returns the security faults of a workflow.
func workflowFaults(text []byte) ([]string, error) {
	var w workflow
	if err := yaml.Unmarshal(text, &w); err != nil {
		return nil, err
	}
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if !maps.Equal(w.Permissions, map[string]string{"contents": "read"}) {
		fault("its permissions are %v", w.Permissions)
	}
	noSecrets := func(where string, env map[string]string) {
		for name, value := range env {
			if confidential.MatchString(value) || strings.Contains(name, "CACHE_TO") {
				fault("%s: %s is there for every step", where, name)
			}
		}
	}
	noSecrets("workflow", w.Env)
	for name, job := range w.Jobs {
		noSecrets(name, job.Env)
		for permission, access := range job.Permissions {
			if access != "read" && !ownOnly(job.If) {
				fault("%s: a pull request has %s: %s", name, permission, access)
			}
		}
		for i, s := range job.Steps {
			where := fmt.Sprintf("%s, step %d", name, i+1)
			for _, f := range s.faults(ownOnly(job.If)) {
				fault("%s: %s", where, f)
			}
		}
	}
	slices.Sort(faults)
	return faults, nil
}

// faults returns the security faults of a step. own means that its job does not run for pull
// requests.
func (s step) faults(own bool) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if s.Uses != "" && !pinnedAction.MatchString(s.Uses) {
		fault("%s is not pinned by its commit", s.Uses)
	}
	if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != false {
		fault("the checkout leaves a token behind")
	}
	if upload.MatchString(s.Run) && !own {
		fault("a pull request writes to the remote cache")
	}
	if confidential.MatchString(s.Run) || confidential.MatchString(fmt.Sprint(s.With)) {
		fault("a secret stands in its text, not in env")
	}
	for name, value := range s.Env {
		for _, secret := range confidential.FindAllString(value, -1) {
			if command := needs[secret]; command == nil || !command.MatchString(s.Run) {
				fault("it does not need %s, as %s", secret, name)
			}
			if secret != "github.token" && !own && !ownOnly(s.If) {
				fault("a pull request sees %s", secret)
			}
		}
	}
	return faults
}

// TestCIPermissions verifies that pull requests write nothing, that only the step that needs a
// token or key has it, and that each action is pinned to a commit.
func TestCIPermissions(t *testing.T) {
	for _, path := range ciFiles {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(path, "gitlab") {
			for _, f := range gitlabFaults(t, text) {
				t.Errorf("%s: %s", path, f)
			}
			continue
		}
		faults, err := workflowFaults(text)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, f := range faults {
			t.Errorf("%s: %s", path, f)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "uses: ") && !regexp.MustCompile(` # v[0-9]+\.[0-9]+\.[0-9]+\n$`).MatchString(line) {
				t.Errorf("%s: %q does not say which version that commit is", path, line)
			}
		}
	}
}

// gitlabFaults returns the jobs that write to the remote cache on branches or tags that are not
// protected.
func gitlabFaults(t *testing.T, text []byte) (faults []string) {
	t.Helper()
	var all map[string]any
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for name, value := range all {
		job, ok := value.(map[string]any)
		if !ok || !upload.MatchString(fmt.Sprint(job)) {
			continue
		}
		rules, _ := job["rules"].([]any)
		own := len(rules) > 0
		for _, r := range rules {
			own = own && strings.Contains(fmt.Sprint(r), `CI_COMMIT_REF_PROTECTED == "true" &&`)
		}
		if !own {
			faults = append(faults, name+" writes to the remote cache in every run")
		}
	}
	return faults
}

// TestCIPermissionsFinds verifies that the checks of TestCIPermissions find each kind of fault.
func TestCIPermissionsFinds(t *testing.T) {
	const head = "permissions: {contents: read}\njobs:\n  a:\n"
	for name, tt := range map[string]struct{ text, want string }{
		"a tag":                   {head + "    steps: [{uses: actions/setup-go@v5}]\n", "not pinned"},
		"a short commit":          {head + "    steps: [{uses: actions/setup-go@40f1582b}]\n", "not pinned"},
		"write for all":           {head + "    permissions: {packages: write}\n", "a pull request has packages: write"},
		"write by default":        {"permissions: write-all\njobs: {}\n", "mapping is expected"},
		"no permissions":          {"jobs: {}\n", "its permissions"},
		"a token of the job":      {head + "    env: {T: '${{ github.token }}'}\n", "for every step"},
		"a token of the workflow": {"env: {T: '${{ secrets.X }}'}\n" + head + "    steps: []\n", "for every step"},
		"a token too many":        {head + "    steps: [{run: make lint, env: {T: '${{ github.token }}'}}]\n", "does not need github.token"},
		"a key in a script":       {head + "    steps: [{run: 'echo ${{ secrets.X }}'}]\n", "stands in its text"},
		"a key for strangers":     {head + "    steps: [{run: sov sign x, env: {K: '${{ secrets.SIGNING_KEY }}'}}]\n", "a pull request sees"},
		"an upload":               {head + "    steps: [{run: 'sov build sql --cache-to x'}]\n", "a pull request writes"},
		"an upload by variable":   {head + "    steps: [{run: 'echo SOV_CACHE_TO=x >>$GITHUB_ENV'}]\n", "a pull request writes"},
		"a checkout's token":      {head + "    steps: [{uses: actions/checkout@11d5960a326750d5838078e36cf38b85af677262}]\n", "leaves a token"},
	} {
		faults, err := workflowFaults([]byte(tt.text))
		if err != nil {
			faults = append(faults, err.Error())
		}
		if !strings.Contains(strings.Join(faults, "\n"), tt.want) {
			t.Errorf("%s: found %q, want %q", name, faults, tt.want)
		}
	}
}
