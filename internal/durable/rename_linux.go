package durable

import "golang.org/x/sys/unix"

// renameKeeping renames a file and fails if the new name exists.
func renameKeeping(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}
