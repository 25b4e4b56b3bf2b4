package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/host/embedded"
	"github.com/sovereign-sql/sov/internal/testkit/androidtest"
	"github.com/sovereign-sql/sov/internal/testkit/artifacttest"
)

var update = flag.Bool("update", false, "rewrite the mistakes of docs/bad-input.md, and the screens in testdata")

// enough is the number of mistakes per command that docs/bad-input.md requires.
const enough = 3

// mistakes are wrong command lines for a shell in the folder of prepareMistakes. They need no
// network and no phone. The test finds the mistaken command from the line.
var mistakes = []string{
	// sov itself.
	"sov biuld sql",
	"sov --verison",
	"sov sql",
	"sov help biuld",
	"sov help cache vreify",
	"sov help build more",
	"sov completion bsh",
	"sov completion bash more",
	"sov completion zsh --no-description",

	"sov init --memroy 2GiB",
	"sov init Shop --no-lock",
	"sov init </dev/null",
	"sov init mine --no-lock",
	"sov init shop --memory much --no-lock",
	"sov recipe shwo sql",
	"sov recipe show",
	"sov recipe show sequel",
	"sov recipe show mine.yml",
	"sov recipe check",
	"sov recipe check mine.ymal",
	"sov recipe check myne.yaml",
	"sov recipe check ./wrong.yaml",
	"sov recipe check ./note.txt",
	"sov recipe check ./sub/web.yaml",
	"sov recipe show mine.yaml --profile dev",
	"sov recipe show mine.yaml --set vm.memry=2GiB",
	"sov recipe show mine.yaml --set vm.cpus=two",
	"sov recipe new",
	"sov recipe new mine",
	"sov recipe new shop --from nginx",
	"sov recipe schema sql",
	"sov recipe schema --jsn",
	"sov recipe schema -o recipe.json",
	"sov build",
	"sov build mine.yaml",
	"sov build mine",
	"sov build sql --arhc amd64",
	"sov build sql --arch x86",
	"sov build sql more",
	"sov build mine.yaml ./sub/mine.yaml",
	"sov build sql --arch arm64,x86",
	"sov build sql --arch arm64,amd64 --kernel Image",
	"sov build sql --jobs many",
	"sov build sql --image",
	"sov build sql --format iso",
	"sov build sql --sign release.pub",
	"sov build sql --sign absent.pem",
	"sov build sql --cache-from nfs://server/share",
	"sov build sql --bundle absent.sovbundle --offline",
	"sov build ./mine.yaml --offline",
	"SOV_REPOSITORIES=ftp://mirror.example/alpine sov build sql",
	"SOV_CONFIG=wrong-config.yaml sov build sql",
	"sov lock",
	"sov lock sql --update-lock",
	"sov lock sql --check --update image",
	"sov lock ./mine.yaml --offline",
	"sov bundle sql",
	"sov bundle sql sql.sovbundle",
	"sov bundle -o sql.sovbundle",
	"sov bundle sql -o absent/sql.sovbundle --offline",
	"sov cache clean",
	"sov cache ls mine",
	"sov cache ls --cache note.txt",
	"sov cache ls --jsno",
	"sov cache du sql",
	"sov cache du --cache note.txt",
	"sov cache du --size",
	"sov cache prune --unused-for 30",
	"sov cache prune --max-size 10 GB",
	"sov cache prune --max-size much",
	"sov cache prune --old 30d",
	"sov cache verify --fix",
	"sov cache verify sql",
	"sov cache verify --cache note.txt",
	"sov cache export",
	"sov cache export absent/cache.tar",
	"sov cache export cache.tar --all",
	"sov cache import",
	"sov cache import absent.tar",
	"sov cache import note.txt",
	"sov cache push",
	"sov cache push type=dir,src=/mnt/share",
	"sov cache push https://registry.example/cache",
	"sov cache pull",
	"sov cache pull type=nfs,src=/mnt",
	"sov cache pull type=dir,src=absent",
	"sov list sql",
	"sov list --phone R58M12345",
	"sov list --device R58M12345",

	"sov run",
	"sov run sequel",
	"sov run sql",
	"sov run out/mine/amd64",
	"sov run sql --port 99999",
	"sov run sql --arch arm",
	"sov run sql -q 'select 1'",
	"sov run sql --format iso",
	"sov secrets get sql postgres",
	"sov secrets set sql",
	"sov secrets set sql postgres hunter2",
	"sov secrets set sql password </dev/null",
	"sov secrets set sql postgres </dev/null",
	"sov secrets set sql postgres --identity absent.txt </dev/null",
	"sov secrets set sql postgres <password.txt",
	"sov secrets generate sql",
	"sov secrets generate sql password",
	"sov secrets generate sql tailscale",
	"sov secrets show sql",
	"sov secrets show sql pasword",
	"sov secrets show sql role-app",
	"sov secrets list",
	"sov secrets list wrong.yaml",
	"sov secrets list sql postgres",
	"sov secrets rm sql",
	"sov secrets rm sql pasword",
	"sov secrets rm sql --all",
	"sov inspect sql",
	"sov inspect ls",
	"sov inspect ls absent",
	"sov inspect ls rootfs.img /ect",
	"sov inspect cat rootfs.img",
	"sov inspect cat rootfs.img /etc/moted",
	"sov inspect cat rootfs.img /etc",
	"sov inspect cat note.txt /etc/motd",
	"sov inspect stat",
	"sov inspect stat rootfs.img etc motd",
	"sov inspect stat rootfs.img /absent",
	"sov inspect tree",
	"sov inspect tree note.txt",
	"sov inspect tree rootfs.img --sizes",
	"sov inspect packages",
	"sov inspect packages absent.img",
	"sov inspect packages mine.yaml",
	"sov inspect services",
	"sov inspect services absent.img",
	"sov inspect services mine.yaml",
	"sov inspect config rootfs.img vm",
	"sov inspect config",
	"sov inspect config out/mine/arm64 memory",
	"sov verify",
	"sov verify sql",
	"sov verify mine.yaml",
	"sov verify out/mine/arm64 --key release.pem",
	"sov verify out/mine",
	"sov diff out/mine/arm64",
	"sov diff out/mine/arm64 absent",
	"sov diff out/mine/arm64 note.txt",

	"sov up",
	"sov up sql",
	"sov up mine.yaml",
	"sov up sql --froward",
	"sov push",
	"sov push sql",
	"sov push mine.yaml",
	"sov push mine",
	"sov push mine --device usb",
	"sov push mine --start --restart",
	"sov push out/mine",
	"sov start",
	"sov start mine",
	"PATH=/nowhere $SOV start mine",
	"sov start mine --timeout soon",
	"sov start nein --device local:phone",
	"sov stop",
	"sov stop mine --all --device R58M12345",
	"sov stop mine --device local:absent",
	"sov stop mine --timeout 5m",
	"sov rekey",
	"sov rekey mine more",
	"sov rekey nein --device local:phone",
	"sov restart",
	"sov restart mine more",
	"sov restart nein --device local:phone",
	"sov status",
	"sov status mine",
	"sov status nein --device local:phone",
	"sov status mine --device local:new",
	"sov logs",
	"sov logs mine --lines -1",
	"sov logs mine --service postgres --runner",
	"sov logs nein --device local:phone",
	"sov test",
	"sov test mine --device ssh:",
	"sov test nein --device local:phone",
	"sov diagnose",
	"sov diagnose mine --repair",
	"sov diagnose nein --device local:phone",
	"sov backup mine file.zip --node",
	"sov repair",
	"sov repair mine --tailnet old",
	"sov repair mine --single-user --forget",
	"sov repair mine --single-user --all",
	"sov repair mine --forget --tailnet new",
	"sov repair nein --device local:phone",
	"sov rollback",
	"sov rollback mine 1.0",
	"sov rollback nein --device local:phone",
	"sov forward",
	"sov forward mine --port 70000",
	"sov forward nein --device local:phone",
	"sov forward mine --device local:phone --device local:new",
	"sov exec",
	"sov exec sql",
	"sov exec sql df",
	"sov exec nein --device local:phone -- df -h",
	"sov exec sql --user Bad! --device local:phone -- df",
	"sov shell",
	"sov shell sql df",
	"sov shell nein --device local:phone",
	"sov shell sql --usr postgres",
	"sov run sql --detach --query 'select 1'",
	"sov stop nein --local",
	"sov phone trust",
	"sov phone trust team.pub more.pub",
	"sov phone trust absent.pub --device local:phone",
	"sov phone trust release.pem --device local:phone",
	"sov phone trust --remove nobody --device local:phone",
	"sov phone trust --list --json",
	"sov phone trus",
	"sov psql",
	"sov psql mine",
	"sov psql mine -c 'select 1'",
	"sov psql nein --device local:phone",
	"sov backup mine",
	"sov backup mine absent/mine.zip",
	"sov backup mine out",
	"sov backup mine mine.zip --recipient note.txt",
	"sov backup mine mine.zip --recipient age1me",
	"sov backup mine mine.zip --recipient age1me --plain",
	"sov backup nein nein.zip --device local:phone",
	"sov restore mine",
	"sov restore mine absent.zip",
	"sov restore mine note.txt",
	"sov restore mine note.txt --check --identity absent.txt",
	"sov upgrade",
	"sov upgrade mine --forget --checksums",
	"sov upgrade mine --all",
	"sov upgrade mine --forget --device local:phone",
	"sov upgrade ./mine.yaml --device local:phone",
	"sov remove",
	"sov remove mine --data </dev/null",
	"sov remove mine --froce",

	"sov key make",
	"sov key new release.pem",
	"sov key new absent/release.pem",
	"sov key new one.pem two.pem",
	"sov key public",
	"sov key public release.pub",
	"sov key public note.txt",
	"sov key passphrase absent.pem",
	"sov key passphrase note.txt --remove",
	"sov key passphrase release.pem --remove --new-passphrase-file note.txt",
	"sov key sign",
	"sov key sign absent.txt",
	"sov key sign note.txt --key release.pub",
	"sov sign",
	"sov sign out/mine/arm64",
	"sov sign out/mine/arm64 --key release.pub",
	"sov sign absent --key release.pem",
	"sov publish mine",
	"sov publish mine REGISTRY.example/Team/sql",
	"sov publish sql registry.example/team/sql:1.0",
	"sov publish mine registry.example/team/sql@sha256:1234",
	"sov pull",
	"sov pull 'registry.example/team/sql 1.0'",
	"sov pull registry.example/team/sql:1.0 --arch mips",
	"sov pull registry.example/team/sql:1.0 --key release.pem",

	"sov doctor --only phones",
	"sov doctor phone",
	"sov doctor --only phone",
	"sov doctor --report phone.txt",
	"sov config set image alpine",
	"SOV_CONFIG=wrong-config.yaml sov config",
	"SOV_CONFIG=absent.yaml sov config",
	"sov version --short",
	"sov version sql",
	"sov version -v",
}

// prepareMistakes creates the folder for the mistakes and returns it with the environment.
func prepareMistakes(t *testing.T) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	const recipe = "name: mine\nbase: {image: alpine}\npostgres: {enabled: true}\n"
	put("mine.yaml", recipe, 0o644)
	put("wrong.yaml", strings.Replace(recipe, "enabled", "enabeld", 1), 0o644)
	put("sub/mine.yaml", recipe, 0o644)
	put("sub/web.yaml", "extends: ../wrong.yaml\nname: web\n", 0o644)
	put("password.txt", "hunter2\n", 0o600)
	put("wrong-config.yaml", "repositores: [https://mirror.example/alpine]\n", 0o644)
	put("note.txt", "Remember the milk.\n", 0o644)
	put("sov.lock", "version: 1\nbuilds:\n  - {recipe: mine, arch: arm64, inputs: {image: busybox, repositories: [], packages: []}, "+
		"image: {reference: x, digest: \"sha256:"+strings.Repeat("0", 64)+"\"}, packages: []}\n", 0o644)
	put("bin/adb", "#!/bin/sh\necho 'List of devices attached'\n", 0o755)
	put("bin/id", "#!/bin/sh\necho 0\n", 0o755) // local: runs on the user's computer and needs no su if the user is root
	put("new/.keep", "", 0o644)

	machine := artifacttest.Make(t, "mine", "1.0", []byte("kernel"), []byte("root"))
	image, err := os.ReadFile(picture(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	put("rootfs.img", string(image), 0o644)
	runner, err := embedded.Program(artifact.RunnerFile, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	put(phonepath.Root("phone").Runner(), string(runner), 0o755)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.CopyFS(filepath.Join(dir, "out/mine/arm64"), os.DirFS(machine)), os.Symlink(program, filepath.Join(dir, "bin/sov")), os.Symlink("/bin/sh", filepath.Join(dir, "bin/sh")))
	if err != nil {
		t.Fatal(err)
	}
	if _, errOut, status := cli(t, "key", "new", filepath.Join(dir, "release.pem")); status != exitDone {
		t.Fatal(errOut)
	}
	public, errOut, status := cli(t, "key", "public", filepath.Join(dir, "release.pem"))
	if status != exitDone {
		t.Fatal(errOut)
	}
	put("release.pub", public, 0o644)
	return dir, []string{"PATH=" + filepath.Join(dir, "bin"), "HOME=" + filepath.Join(dir, "home"), "SOV=" + filepath.Join(dir, "bin/sov"), "SOV_TEST_RUN_CLI=1", "LC_ALL=C"}
}

// TestMistakes runs every mistake, checks the exit status and the message, and compares them with
// docs/bad-input.md.
func TestMistakes(t *testing.T) {
	dir, env := prepareMistakes(t)
	root := newRoot()
	addCompletion(root)
	rows := map[*cobra.Command][]string{}
	for _, line := range mistakes {
		verb := verbOf(root, line)
		status, said := mistake(t, dir, env, line)
		checkMessage(t, line, status, said)
		rows[verb] = append(rows[verb], fmt.Sprintf("| `%s` | %d | %s |\n", strings.ReplaceAll(line, "|", `\|`), status, tableCell(said)))
	}
	var text strings.Builder
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		want := enough
		if c.HasSubCommands() && c.Name() != "completion" {
			want = 1 // its subcommands have the mistakes
		}
		if len(rows[c]) < want {
			t.Errorf("%s: %d mistakes are shown, want %d at least", c.CommandPath(), len(rows[c]), want)
		}
		fmt.Fprintf(&text, "\n### %s\n\n| you type | exit status | sov says |\n| --- | --- | --- |\n%s", c.CommandPath(), strings.Join(rows[c], ""))
		if c.Name() == "completion" {
			return // the shells are arguments here
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	golden(t, text.String())
}

// verbOf returns the command that a line is a mistake for. The shells of `sov completion` count as
// its arguments.
func verbOf(root *cobra.Command, line string) *cobra.Command {
	words := strings.Fields(line)
	for i, word := range words {
		if word == "sov" || word == "$SOV" {
			words = words[i+1:]
			break
		}
	}
	c := root
	for _, word := range words {
		next := c
		for _, sub := range c.Commands() {
			if sub.Name() == word {
				next = sub
			}
		}
		if next == c || next.Name() == "completion" || next.Name() == "help" {
			return next
		}
		c = next
	}
	return c
}

// The times in the answers: of a stage that failed, and of a step of sov-runner.
var (
	stageTime = regexp.MustCompile(`after [0-9.]+s`)
	stepTime  = regexp.MustCompile(`\([0-9.]+ s\)`)
)

// mistake runs a line in a shell and returns the exit status and standard error. Every time is 0.
func mistake(t *testing.T, dir string, env []string, line string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	command.Dir, command.Env = dir, env
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	err := command.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", line, err)
	}
	said := errOut.String()
	if command.ProcessState.ExitCode() == exitFound {
		said = out.String() + said // a check prints its findings on standard output
	}
	said = stepTime.ReplaceAllString(stageTime.ReplaceAllString(strings.ReplaceAll(said, dir, "…"), "after 0.00s"), "(0.0 s)")
	return command.ProcessState.ExitCode(), strings.TrimSpace(said)
}

var advice = regexp.MustCompile("`|--[a-z]|\\$[A-Z]|must |did you mean|expected|, or choose|: (name|make|use|type|write|compare|choose|give|plug) |; (use|write|name) ")

// checkMessage checks the message for a mistake: sov must print exactly one error, in its own
// words, with what to do.
func checkMessage(t *testing.T, line string, status int, said string) {
	t.Helper()
	if status != exitFailed && status != exitUsage && status != exitFound {
		t.Errorf("%s: status %d: %s", line, status, said)
	}
	if strings.Contains(said, "(see `") && status != exitUsage {
		t.Errorf("%s: status %d, want that of wrong usage: %s", line, status, said)
	}
	at := strings.LastIndex("\n"+said, "\nsov: ")
	if at < 0 || strings.Contains(said, "goroutine ") {
		t.Errorf("%s: no complaint of sov's: %s", line, said)
		return
	}
	complaint := said[at:]
	if status != exitFound && !advice.MatchString(strings.TrimPrefix(complaint, "sov: ")) {
		t.Errorf("%s: the answer does not say what to do: %s", line, complaint)
	}
	for _, raw := range []string{"arg(s)", "sov: sov: ", "sov: stat ", ": stat ", "sov-runner up", "sov-runner down", ": : ", " is no ", "know "} {
		if strings.Contains(complaint, raw) {
			t.Errorf("%s: the answer has %q: %s", line, raw, complaint)
		}
	}
}

func tableCell(text string) string {
	text = strings.ReplaceAll(text, "|", `\|`)
	text = strings.ReplaceAll(text, "`", "´")
	return "`" + strings.ReplaceAll(text, "\n", "`<br>`") + "`"
}

// golden compares the mistakes with docs/bad-input.md, or updates that file.
func golden(t *testing.T, rows string) {
	t.Helper()
	const path, begin, end = "../../docs/bad-input.md", "<!-- mistakes: begin -->\n", "<!-- mistakes: end -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), begin)
	before, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the mistakes", path)
	}
	switch {
	case before == rows:
	case *update:
		if err := os.WriteFile(path, []byte(head+begin+rows+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not what sov says: go test ./cmd/sov -run TestMistakes -update", path)
		for _, line := range androidtest.Differences(before, rows) {
			t.Error(line)
		}
	}
}
