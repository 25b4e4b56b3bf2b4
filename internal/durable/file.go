package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// An Option changes how a file is written.
type Option func(*File)

// KeepExisting makes the write fail with an error that wraps fs.ErrExist if the path exists, even
// if it was created during the write.
func KeepExisting() Option { return func(f *File) { f.keep = true } }

// In puts the temporary file into another folder of the same file system. The caller removes
// leftovers there.
func In(dir string) Option { return func(f *File) { f.dir = dir } }

// NoSync omits both syncs. The file is replaced atomically, but may be empty or torn after a power
// cut. Use it for content that is checked when it is read and can be re-created.
func NoSync() Option { return func(f *File) { f.noSync = true } }

// WriteFile writes content to the file at path, with exactly the permission bits of perm,
// regardless of the umask. The folder must exist. After an error the old file is unchanged, unless
// only the folder's sync failed: then the new file is in place, but a power cut may undo that.
func WriteFile(path string, content []byte, perm fs.FileMode, options ...Option) error {
	f, err := Create(path, perm, options...)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return f.fault(err)
	}
	return f.Commit()
}

// A File is a temporary file that [File.Commit] renames to its final path. Name returns the name of
// the temporary file.
type File struct {
	*os.File
	path         string
	perm         fs.FileMode
	dir          string // of the temporary file
	keep, noSync bool
	gone         bool         // the temporary name does not exist anymore
	step         func(string) // called after each step; tests kill the process there
}

// Create starts to write the file at path. The caller must close the File, which removes it unless
// it was committed.
func Create(path string, perm fs.FileMode, options ...Option) (*File, error) {
	f := &File{path: path, perm: perm, step: func(string) {}}
	for _, option := range options {
		option(f)
	}
	if f.dir == "" {
		f.dir = filepath.Dir(path)
		RemoveLeftovers(path) // an error does not prevent the write
	}
	var err error
	if f.File, err = CreateTemp(f.dir, prefix(path)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: make the folder %s first", f.fault(err), f.dir)
	} else if err != nil {
		return nil, f.fault(err)
	}
	f.step("created")
	return f, nil
}

// Commit sets the mode, syncs the file, renames it and syncs the folder. The file stays open,
// unless NoSync is set. Errors are as for WriteFile.
func (f *File) Commit() (err error) {
	if f.gone {
		return f.fault(os.ErrClosed)
	}
	defer func() { err = f.fault(err) }()
	f.step("written")
	if err := f.chmod(); err != nil {
		return err
	}
	f.step("chmod")
	if f.noSync {
		// A network file system may report a failed write only here. Closing also releases the
		// lock: another writer of the same path could then remove the file as a leftover, and this
		// write would fail.
		if err := f.File.Close(); err != nil {
			return err
		}
		return f.name()
	}
	if err := f.Sync(); err != nil {
		return err
	}
	f.step("synced")
	// Open the folder before the rename: if that fails, the old file is kept.
	folder, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := f.name(); err != nil {
		return err
	}
	f.step("renamed")
	return syncFolder(folder)
}

// Close closes the file and removes it if it was not committed.
func (f *File) Close() error {
	err := f.File.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if !f.gone {
		f.gone = true
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

func (f *File) chmod() error {
	info, err := f.Stat()
	if err != nil || info.Mode().Perm() == f.perm.Perm() {
		return err
	}
	return f.Chmod(f.perm.Perm())
}

// name renames or links the complete file to its path.
func (f *File) name() error {
	if !f.keep {
		err := os.Rename(f.Name(), f.path)
		f.gone = err == nil
		return err
	}
	// Unlike a rename, a link never replaces a file. FAT does not support links.
	err := os.Link(f.Name(), f.path)
	if err == nil {
		f.gone = true
		return os.Remove(f.Name())
	}
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if renameErr := renameKeeping(f.Name(), f.path); renameErr == nil || errors.Is(renameErr, fs.ErrExist) {
		f.gone = renameErr == nil
		return renameErr
	}
	return err
}

// fault returns err as an error about path instead of the temporary name.
func (f *File) fault(err error) error {
	if err == nil {
		return nil
	}
	cause := err
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		cause = path.Err
	case errors.As(err, &link):
		cause = link.Err
	}
	return &fs.PathError{Op: "write", Path: f.path, Err: cause}
}
