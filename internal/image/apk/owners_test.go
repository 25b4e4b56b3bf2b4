package apk

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestOwnersAgainstAPK installs packages whose files belong to accounts by name. One account is
// created by a pre-install script and passed to Install by the caller; another does not exist.
func TestOwnersAgainstAPK(t *testing.T) {
	newOracle(t)
	root := alpineRoot(t, nil)
	ours := diskTree(t, root)
	// On the packager's system ID 101 is this account's, here it is another account's.
	p := testPkg{name: "helper", version: "1-r0", scripts: map[string]string{
		"pre-install": "#!/bin/sh\naddgroup -g 901 bus\nadduser -D -H -u 902 -G bus carrier\naddgroup -g 101 stranger\n",
	}, files: append(entries("opt/"), ownedBy("root", "bus", "4750|0.101|opt/helper: h"), ownedBy("carrier", "bus", "101.101|opt/own: o"),
		ownedBy("root", "nosuch", "0.101|opt/unknown: u"))}
	file := p.build(t)
	writeFile(t, filepath.Join(root, "repo/x86_64/helper-1-r0.apk"), file)
	mustAPK(t, root, "index", "--allow-untrusted", "--no-warnings", "--rewrite-arch", "x86_64", "-o", "/repo/x86_64/APKINDEX.tar.gz", "/repo/x86_64/helper-1-r0.apk")
	mustAPK(t, root, "add", "--allow-untrusted", "--no-network", "-X", "/repo", "--repositories-file", "/etc/apk/none", "helper")

	index := readIndexFile(t, filepath.Join(root, "repo/x86_64/APKINDEX.tar.gz"))
	change := Changes{Add: []Addition{addition(t, index.Packages[0], file)},
		Users: map[string]uint32{"carrier": 902, "root": 5}, Groups: map[string]uint32{"bus": 901, "stranger": 101}}
	plan, err := PlanInstall(ours, change)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"package helper-1-r0: files of group nosuch get id 101, since the machine has no group of that name, and that id belongs to stranger"}
	if !slices.Equal(plan.Warnings(), want) {
		t.Errorf("warned:\n%s\nwant:\n%s", strings.Join(plan.Warnings(), "\n"), want[0])
	}
	if err := Install(ours, change); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"opt/helper", "opt/own", "opt/unknown"} {
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		theirs := info.Sys().(*syscall.Stat_t)
		if n, ok := ours.Lookup(name); !ok || n.UID != theirs.Uid || n.GID != theirs.Gid || n.Mode != theirs.Mode {
			t.Errorf("/%s: %+v, apk has %d:%d %o", name, n, theirs.Uid, theirs.Gid, theirs.Mode)
		}
	}
}
