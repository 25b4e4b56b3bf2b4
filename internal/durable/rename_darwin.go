package durable

import "golang.org/x/sys/unix"

// renameKeeping renames a file and fails if the new name exists.
func renameKeeping(from, to string) error { return unix.RenamexNp(from, to, unix.RENAME_EXCL) }
