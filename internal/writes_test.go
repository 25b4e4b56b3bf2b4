package internal

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// handmade matches operations that only package durable may do: rename, link, sync and lock files.
var handmade = regexp.MustCompile(`os\.(Rename|Link)\(|\.Renameat2?\(|\.(Fsync|Fdatasync)\(|\.Sync\(\)|\.(Flock|FcntlFlock)\(`)

// exceptions are the files with such operations, and the reasons.
var exceptions = map[string]string{
	"pipeline/store/blob.go":                    "a blob's name is known at the end, and given under a lock that waits for no sync",
	"stages/export/export.go":                   "whole folders take each other's place, and are synced with durable.SyncDir",
	"stages/export/swap.go":                     "the same",
	"stages/export/swap_linux.go":               "the same",
	"internal/artifact/datadisk/grow.go":        "a disk grows in place",
	"internal/host/publish/download.go":         "an interrupted download stays, and goes on",
	"internal/host/publish/place.go":            "files move into a folder that package export syncs",
	"internal/phone/receive/assemble.go":        "an interrupted transfer stays, and goes on",
	"internal/phone/slots/change.go":            "the next rename, in the same folder, syncs this one",
	"internal/phone/daemon/logs.go":             "a log",
	"internal/phone/daemon/configdisk.go":       "zeros over a file that goes away",
	"internal/guest/journal/logring/logring.go": "a log",
	"internal/guest/disk/data.go":               "the whole disk is synced before it is unmounted",
	"internal/guest/disk/luks.go":               "a header on a block device",
}

// TestOneWayToWrite finds files that are written durably, or locked, without package durable.
func TestOneWayToWrite(t *testing.T) {
	unused := maps.Clone(exceptions)
	for _, side := range []string{"cmd", "pipeline", "stages", "assets", "kernel", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", side), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(filepath.ToSlash(path), "../")
			if d.IsDir() && slices.Contains([]string{"internal/durable", "internal/testkit", "internal/e2e"}, name) {
				return filepath.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found := handmade.FindString(string(text))
			if found != "" && exceptions[name] == "" {
				t.Errorf("%s calls %s: use package durable, or say here why not", name, strings.Trim(found, ".("))
			}
			if found != "" {
				delete(unused, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range unused {
		t.Errorf("%s needs no exception any more", name)
	}
}
