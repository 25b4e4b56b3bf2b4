package guestinit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

// TestVolumes checks mount points in the image and volumes in the init's files. A service without
// directories may write to the volumes that no other service names.
func TestVolumes(t *testing.T) {
	root := below(t, alpine)
	r := parse(t, `
volumes:
  - {name: media, size: 1GiB, path: /srv/a/media, owner: nobody, mode: "0750"}
  - {name: cold, size: 1GiB, path: /mnt/cold}
services:
  - {name: all, command: [/bin/all]}
  - {name: web, command: [/bin/web], directories: [{path: /srv/a/media}], backup: {paths: [/srv/a/media/files]}}
`)
	if err := apply(t, root, r); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"srv", "srv/a", "srv/a/media", "mnt", "mnt/cold"} {
		if n, ok := root.Lookup(dir); !ok || n.Mode != tree.S_IFDIR|0o755 || n.UID != 0 {
			t.Errorf("%s: %+v", dir, n)
		}
	}
	c, err := guestspec.Load(treeFS(t, root))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]guestspec.Volume{
		{Name: "media", Directory: guestspec.Directory{Path: "/srv/a/media", Mode: "0750", User: "nobody"}},
		{Name: "cold", Directory: guestspec.Directory{Path: "/mnt/cold", Mode: "0755", User: "root"}},
	}, c.Volumes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/data", "/mnt/cold"}, c.Services[0].Writable()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/srv/a/media"}, c.Services[0].Hidden(c.Services, c.Roots())); diff != "" {
		t.Error(diff)
	}
	for what, c := range map[string]struct {
		files      map[string]string
		rest, want string
	}{
		"hidden files": {map[string]string{"mnt/cold/README": "x"}, "", "/mnt/cold in the image is not empty"},
		"a file":       {map[string]string{"mnt": "x"}, "", "/mnt in the image is not a directory"},
		"no owner":     {nil, ", owner: stranger", "there is no user stranger"},
	} {
		root := below(t, alpine)
		for name, content := range c.files {
			if err := root.Put(name, &tree.Inode{Mode: tree.S_IFREG | 0o644, Content: tree.Bytes([]byte(content))}); err != nil {
				t.Fatal(err)
			}
		}
		err := apply(t, root, parse(t, "volumes: [{name: cold, size: 1GiB, path: /mnt/cold"+c.rest+"}]\n"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
