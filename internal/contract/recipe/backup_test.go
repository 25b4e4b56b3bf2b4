package recipe

import (
	"strings"
	"testing"
)

func TestBackup(t *testing.T) {
	service := func(backup string) string {
		return minimal + `
services:
  - {name: other, command: [/bin/other], directories: [{path: /data/other}, {path: /data/app/other}], backup: {paths: [/data/other]}}
  - {name: app, command: [/bin/app], directories: [{path: /data/app}, {path: /data/shared/app}, {path: /run/app}], backup: ` + backup + `}
`
	}
	r, err := Parse("tiny.yaml", []byte(service(`{command: [/bin/dump], restore: [/bin/load], paths: [/data/app/files, /data/shared/app]}`)))
	if err != nil || len(r.Services[1].Backup.Paths) != 2 || r.Services[1].Backup.Restore[0] != "/bin/load" {
		t.Fatalf("%+v, %v", r, err)
	}
	for backup, want := range map[string]string{
		`{}`:                     "give command and restore, or paths",
		`{command: [/bin/dump]}`: "give both command and restore",
		`{restore: [/bin/load]}`: "give command and restore, or paths",
		`{command: [dump], restore: [/bin/load]}`: "absolute path of a program",
		`{paths: [data]}`:                         "not a clean absolute path",
		`{paths: [/data/app/../x]}`:               "not a clean absolute path",
		`{paths: [/data/elsewhere]}`:              "is not in a directory below /data or on a volume that the service names",
		`{paths: [/data/shared]}`:                 "is not in a directory below /data or on a volume that the service names",
		`{paths: [/run/app]}`:                     "is not in a directory below /data or on a volume that the service names",
		`{paths: [/data/other]}`:                  "is not in a directory below /data or on a volume that the service names",
		`{paths: [/data/app]}`:                    `contains "/data/app/other", which belongs to service other`,
		`{paths: [/data/app/a, /data/app/a/b]}`:   `is saved already, by "/data/app/a" of service app`,
		`{paths: [/data/app/a, /data/app/a]}`:     `is saved already, by "/data/app/a" of service app`,
		`{path: [/data/app]}`:                     "paths",
	} {
		if _, err := Parse("tiny.yaml", []byte(service(backup))); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "tiny.yaml:") {
			t.Errorf("%s: %v, want %q", backup, err, want)
		}
	}
}
