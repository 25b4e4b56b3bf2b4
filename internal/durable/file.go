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

// In puts the temporary file into another folder of the same file system. The caller removes the
// leftovers there.
func In(dir string) Option { return func(f *File) { f.dir = dir } }

// NoSync leaves out both syncs: the file is replaced atomically, but a power cut may leave it empty
// or torn. It is for content that is checked when it is read and can be made again.
func NoSync() Option { return func(f *File) { f.noSync = true } }

// WriteFile makes content the content of the file at path, with exactly the permission bits of
// perm, whatever the umask. The folder must exist. An error means that the old file is still there,
// except when only the folder's sync failed: the new file is in place then, but a power cut may
// undo that.
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

// A File is a temporary file that [File.Commit] makes the file at a path. Name is the name of the
// temporary file.
type File struct {
	*os.File
	path         string
	perm         fs.FileMode
	dir          string // of the temporary file
	keep, noSync bool
	gone         bool         // the temporary name does not exist any more
	step         func(string) // called after each step; tests die there
}

// Create begins to write the file at path. The caller closes the File, which removes it unless it
// was committed.
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

// Commit sets the mode, syncs the file, gives it its name and syncs the folder. The file stays
// open. WriteFile says what an error means.
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
		// A network file system may report a failed write only here. The lock ends here too, so
		// that another writer of the same path could take the file for a leftover: this write fails
		// then.
		if err := f.File.Close(); err != nil {
			return err
		}
		return f.name()
	}
	if err := f.Sync(); err != nil {
		return err
	}
	f.step("synced")
	// Opened before the rename: a folder that cannot be opened keeps its old file.
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
	// A link, unlike a rename, never replaces a file. FAT has no links.
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

// fault makes err an error about path instead of the temporary name.
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
