package store

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// advisedError is an error whose text includes advice for the user.
type advisedError struct {
	err    error
	advice string
}

func (e *advisedError) Error() string { return e.err.Error() + " (" + e.advice + ")" }
func (e *advisedError) Unwrap() error { return e.err }

// Advise adds advice to an error of the disk that holds place: disk full, read-only, not a folder,
// or owned by another user. Other errors, and those that have advice already, are returned
// unchanged.
func Advise(err error, place string) error {
	var done *advisedError
	if err == nil || errors.As(err, &done) {
		return err
	}
	if advice := diskAdvice(err, place); advice != "" {
		return &advisedError{err, advice}
	}
	return err
}

// Advise is the function Advise for errors of the disk that holds the store.
func (s *Store) Advise(err error) error { return Advise(err, "the cache "+s.dir) }

// diskAdvice returns what to do about an error of the disk that holds place, or "" if err is about
// something else.
func diskAdvice(err error, place string) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Sprintf("the disk that holds %s is full: free some space, prune the cache, or use another disk", place)
	case errors.Is(err, unix.EROFS):
		return fmt.Sprintf("%s is on a read-only file system: make it writable or choose another directory", place)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Sprintf("%s is not a folder: choose another directory", place)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s may not be written by this user: change its owner or choose another directory", place)
	}
	return ""
}
