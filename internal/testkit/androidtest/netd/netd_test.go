package netd

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/testkit/repeat"
)

// newNetd moves the test's thread to a new network namespace and starts a netd there. Both end with
// the test.
func newNetd(t *testing.T, s System) *Netd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	for _, program := range []string{"iptables-legacy", "ip6tables-legacy"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	state, err := os.MkdirTemp("", "netd-") // the path of t.TempDir contains the test's name, which scripts do not quote
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	return New(t, Options{System: s, Phone: Place{unix.Gettid(), func(script string) string { return run(t, nil, script) }},
		Internet: place(t), State: state, NewPlace: func() Place { return place(t) }})
}

// place creates a namespace that ends with the test.
func place(t *testing.T) Place {
	t.Helper()
	keeper := exec.Command("sleep", "infinity")
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := keeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keeper.Process.Kill(); keeper.Wait() })
	pid := keeper.Process.Pid
	return Place{pid, func(script string) string {
		return run(t, []string{"nsenter", "--net", "--target", fmt.Sprint(pid)}, script)
	}}
}

func run(t *testing.T, prefix []string, script string) string {
	t.Helper()
	argv := append(prefix, "sh", "-euc", script)
	command := exec.Command(argv[0], argv[1:]...)
	command.Env = append(os.Environ(), "IPTABLES=iptables-legacy", "IP6TABLES=ip6tables-legacy", "XTABLES_LOCKFILE="+lockFile)
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, said.String())
	}
	return out.String()
}

// list returns the expected rules of a scene.
func list(t *testing.T, s System, scene Scene) string {
	t.Helper()
	file := "testdata/aosp-13-to-16.txt"
	if s.Lineage {
		file = "testdata/lineageos-20-to-22-calyxos.txt"
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(string(text), "\n### ") {
		if heading, rules, _ := strings.Cut(section, "\n"); strings.HasPrefix(heading, scene.Name) {
			if s.Lineage && s.Release == 13 { // as the file's header says
				rules = strings.ReplaceAll(rules, "/0xdffff lookup wlan0", "/0xcffff lookup wlan0")
				rules = strings.ReplaceAll(rules, "0xd0064/0xcffff", "0xd0064/0xdffff")
			}
			return strings.TrimSpace(rules)
		}
	}
	t.Fatalf("%s has no scene %q", file, scene.Name)
	return ""
}

var (
	lookup = regexp.MustCompile(`lookup (\d+)`)
	perUID = regexp.MustCompile(`(?m)^30\d\d\d:.*\n`)
)

// dump returns the output of `ip rule` in the format of the lists, with the tables' names.
func (n *Netd) dump(family string) string {
	names := map[string]string{"97": "local_network", "98": "legacy_network", "99": "legacy_system"}
	for name, index := range n.index {
		names[fmt.Sprint(1000+index)] = name
		names[fmt.Sprint(1000000000+index)] = name + "_local"
	}
	text := n.o.Phone.Shell("ip " + family + " rule")
	text = perUID.ReplaceAllString(text, "") // the lists omit them
	text = strings.NewReplacer("fwmark 0/", "fwmark 0x0/", " [detached]", "").Replace(text)
	text = lookup.ReplaceAllStringFunc(text, func(s string) string {
		if name, ok := names[strings.TrimPrefix(s, "lookup ")]; ok {
			return "lookup " + name
		}
		return s
	})
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(regexp.MustCompile(` proto \S+`).ReplaceAllString(line, ""))
	}
	return strings.Join(lines, "\n")
}

// TestScenesAreThoseOfTheLists checks the rules of each listed scene, which events set up on a
// phone that has just booted. In an endurance run it checks each scene on each system, otherwise on
// one system of each list.
func TestScenesAreThoseOfTheLists(t *testing.T) {
	for i, s := range Systems {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			for j, scene := range Scenes {
				if (i+j)%4 != 0 && !repeat.Whole() {
					continue
				}
				t.Run(scene.Name, func(t *testing.T) {
					n := newNetd(t, s)
					n.ToScene(scene)
					want := list(t, s, scene)
					for _, family := range []string{"-4", "-6"} {
						if got := n.dump(family); got != want {
							t.Errorf("ip %s rule:\n%s\nwant:\n%s", family, got, want)
						}
					}
				})
			}
		})
	}
}

// TestEveryListedSceneIsPlayed checks that Scenes contains every listed scene.
func TestEveryListedSceneIsPlayed(t *testing.T) {
	for _, file := range []string{"testdata/aosp-13-to-16.txt", "testdata/lineageos-20-to-22-calyxos.txt"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range strings.Split(string(text), "\n### ")[1:] {
			heading, _, _ := strings.Cut(section, "\n")
			if !slices.ContainsFunc(Scenes, func(s Scene) bool { return strings.HasPrefix(heading, s.Name) }) {
				t.Errorf("%s: %s is not played", file, heading)
			}
		}
	}
}

// lockFile is the iptables lock that all tests of this package share.
const lockFile = "/dev/shm/netd-test.lock"
