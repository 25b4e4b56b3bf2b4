package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSettingsReachCommands verifies that commands use the settings of the file, the environment
// and flags, and that flags override the environment, which overrides the file.
func TestSettingsReachCommands(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	text := "image: /file/alpine.tar\ncache: " + dir + "/cache\nidentity: /file/key.txt\ndevice: local:/file/phone\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"SOV_CACHE_DIR", "SOV_IMAGE", "SOV_IDENTITY", "SOV_DEVICE", "ANDROID_SERIAL"} {
		t.Setenv(name, "")
	}
	t.Setenv("SOV_CONFIG", file)
	t.Setenv("SOV_CONFIG_DIR", dir)
	build := []string{"build", "sql", "--lock", filepath.Join(dir, "sov.lock")}
	for _, c := range []struct {
		args     []string
		variable string
		value    string
		says     string
	}{
		{args: build, says: "/file/alpine.tar"},
		{args: build, variable: "SOV_IMAGE", value: "/variable/alpine.tar", says: "/variable/alpine.tar"},
		{args: append(build, "--image", "/flag/alpine.tar"), variable: "SOV_IMAGE", value: "/variable/alpine.tar", says: "/flag/alpine.tar"},
		{args: []string{"cache", "du"}, says: "files in " + dir + "/cache"},
		{args: []string{"cache", "du", "--cache", dir + "/flag"}, says: "files in " + dir + "/flag"},
		{args: []string{"status", "sql"}, says: "local:/file/phone: the folder does not exist"},
		{args: []string{"status", "sql"}, variable: "SOV_DEVICE", value: "local:/variable/phone", says: "local:/variable/phone"},
		{args: []string{"status", "sql", "--device", "local:/flag/phone"}, says: "local:/flag/phone"},
		{args: []string{"secrets", "set", "sql", "postgres", "--identity", "/flag/key.txt"}, says: "/flag/key.txt"},
	} {
		t.Run(strings.Join(append(c.args, c.variable), " "), func(t *testing.T) {
			if c.variable != "" {
				t.Setenv(c.variable, c.value)
			}
			if out, errOut, _ := cli(t, c.args...); !strings.Contains(out+errOut, c.says) {
				t.Errorf("it does not say %s:\n%s%s", c.says, out, errOut)
			}
		})
	}
	t.Setenv("SOV_IMAGE", "variable/alpine:3")
	out, errOut, status := cli(t, "config", "--json")
	var report configReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != exitDone || !report.Exists || report.File != file {
		t.Fatalf("%v, status %d: %s%s", err, status, out, errOut)
	}
	for _, s := range report.Settings {
		want := map[string]string{"image": "environment $SOV_IMAGE variable/alpine:3", "device": "file " + file + ":4 local:/file/phone", "cache_to": "default  "}[s.Key]
		if got := string(s.From) + " " + s.Where + " " + strings.Join(s.Values, ","); want != "" && got != want {
			t.Errorf("%s is %s, want %s", s.Key, got, want)
		}
	}
}
