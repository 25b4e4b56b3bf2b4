package apk

import (
	"fmt"
	"strings"
	"testing"
)

func TestWhy(t *testing.T) {
	deps := func(words string) []Dep {
		list, err := ParseDeps(words)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	packages := []*Package{
		{Name: "app", Version: "2-r0", Depends: deps("so:lib.so.1 shell !other"), Provides: deps("server=2")},
		{Name: "lib", Version: "1-r0", Provides: deps("so:lib.so.1=1.0"), Depends: deps("musl")},
		{Name: "busybox", Version: "1-r0", Provides: deps("shell"), Depends: deps("lib musl")},
		{Name: "app-doc", Version: "2-r0", InstallIf: deps("app=2-r0 docs")},
		{Name: "musl", Version: "1-r0"},
		{Name: "stray", Version: "1-r0"},
		{Name: "other-kind", Version: "1-r0", Provides: deps("other")},
	}
	for name, want := range map[string]string{
		"lib":        "server>1: app by server>1, lib by so:lib.so.1 | shell: busybox by shell, lib by lib",
		"busybox":    "server>1: app by server>1, busybox by shell | shell: busybox by shell",
		"musl":       "server>1: app by server>1, lib by so:lib.so.1, musl by musl | shell: busybox by shell, musl by musl",
		"app-doc":    "server>1: app by server>1, app-doc if app=2-r0",
		"stray":      "",
		"other-kind": "",
		"absent":     "",
	} {
		var got []string
		for _, chain := range Why(deps("server>1 shell"), packages, name) {
			var links []string
			for _, l := range chain {
				word := "by"
				if l.If {
					word = "if"
				}
				links = append(links, fmt.Sprintf("%s %s %s", l.Package.Name, word, l.Reason))
			}
			got = append(got, chain[0].Reason.String()+": "+strings.Join(links, ", "))
		}
		if s := strings.Join(got, " | "); s != want {
			t.Errorf("%s: got %q, want %q", name, s, want)
		}
	}
}
