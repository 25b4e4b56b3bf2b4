package crosvmcli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// A witness is a command line that others wrote for certain releases.
type witness struct {
	releases []string
	source   string
	words    []string
}

func witnesses(t *testing.T) []witness {
	t.Helper()
	text, err := os.ReadFile("testdata/witnesses.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []witness
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), " | ", 3)
		if len(parts) != 3 || strings.HasPrefix(line, "#") {
			continue
		}
		w := witness{releases: strings.Fields(strings.Trim(parts[0], "-")), source: parts[1]}
		for _, word := range strings.Fields(parts[2]) { // no witness has a quoted space
			word = strings.ReplaceAll(strings.ReplaceAll(word, "path=F", "path=/proc/self/fd/9"), "input=F", "input=/proc/self/fd/9")
			if word == "F" || strings.HasPrefix(word, "F,") {
				word = "/proc/self/fd/9" + word[1:]
			}
			w.words = append(w.words, strings.Trim(word, "'"))
		}
		out = append(out, w)
	}
	if len(out) < 10 {
		t.Fatalf("%d witnesses", len(out))
	}
	return out
}

// contradictions returns the witnesses that a table rejects on the releases for which they were
// written, or accepts on others.
func contradictions(table Table, all []witness) []string {
	var out []string
	for _, w := range all {
		for _, r := range Releases {
			_, err := table.Parse(r, w.words, func(path string) bool { return path != "/s" })
			if want := slices.Contains(w.releases, string(r)); (err == nil) != want {
				out = append(out, fmt.Sprintf("%s on Android %s: %v, want taken: %t", w.source, r, err, want))
			}
		}
	}
	return out
}

// TestWitnesses checks that the table and the grammar accept what others have written.
func TestWitnesses(t *testing.T) {
	for _, c := range contradictions(Facts(), witnesses(t)) {
		t.Error(c)
	}
}

// TestWitnessesNoticeMistakes checks that a wrong row of the table contradicts a witness.
func TestWitnessesNoticeMistakes(t *testing.T) {
	all := witnesses(t)
	for name, spoil := range map[string]func(*Flag){
		"--name":                func(f *Flag) { f.In[Android15QPR2] = false },
		"--net":                 func(f *Flag) { f.In[Android14] = false },
		"--block":               func(f *Flag) { f.In[Android15QPR2] = false },
		"--boost-uclamp":        func(f *Flag) { f.In[Android15] = false },
		"--no-pmu":              func(f *Flag) { f.In[Android15QPR2] = false },
		"--swiotlb":             func(f *Flag) { f.Value = "bool" },
		"--disable-sandbox":     func(f *Flag) { f.Kind, f.Value = "option", "path" },
		"--device-tree-overlay": func(f *Flag) { f.Condition = `target_arch = "x86_64"` },
	} {
		table := Facts()
		i := slices.IndexFunc(table, func(f Flag) bool { return f.Name == name })
		spoil(&table[i])
		if len(contradictions(table, all)) == 0 {
			t.Errorf("%s spoiled: no witness notices", name)
		}
	}
}
