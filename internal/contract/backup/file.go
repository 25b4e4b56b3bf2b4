package backup

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/sovereign-sql/sov/internal/durable"
)

// Formats of backup.json. A backup with services has the newer format, so that versions of sov that
// support only databases refuse it.
const (
	FormatDatabases = 1
	FormatServices  = 2
)

// index is the entry that lists the others.
const index = "backup.json"

// maxIndex bounds it, in bytes.
const maxIndex = 16 << 20

// A Backup is what backup.json holds.
type Backup struct {
	Format  int       `json:"format"`
	Machine string    `json:"machine"` // its name
	Time    time.Time `json:"time"`    // when it was made
	Files   []File    `json:"files"`
}

// A File is an entry of the archive.
type File struct {
	Name string `json:"name"`
	Part
	Sum
}

// plain matches names of databases that are usable as file names.
var plain = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}$`)

// A Layer is a transformation between an archive and its file, such as encryption. The zero Layer
// changes nothing.
type Layer struct {
	// Seal returns a writer of the archive. Its Close completes the file.
	Seal func(file io.Writer) (io.WriteCloser, error)
	// Open returns the archive in a file of size bytes, and the archive's size.
	Open func(file io.ReaderAt, size int64) (io.ReaderAt, int64, error)
}

// Create writes the content of a stream to an archive at path. The archive appears, or replaces an
// older one, when the stream is complete and verified. Only its owner can read it, because it
// contains password verifiers. With an encrypting layer no plain text is written to the disk; the
// layer's Open must be able to read the output of its Seal.
func Create(path string, b Backup, stream *Reader, layer Layer) (_ *Backup, err error) {
	f, err := durable.Create(path, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := b.seal(f, stream, layer); err != nil {
		return nil, err
	}
	again, err := Open(f.Name(), layer) // verify by reading it back
	if err != nil {
		return nil, err
	}
	defer again.Close()
	if err := again.Verify(); err != nil {
		return nil, err
	}
	return &b, f.Commit()
}

func (b *Backup) seal(f io.Writer, stream *Reader, layer Layer) error {
	if layer.Seal == nil {
		return b.write(f, stream)
	}
	sealed, err := layer.Seal(f)
	if err != nil {
		return err
	}
	if err := b.write(sealed, stream); err != nil {
		return err
	}
	return sealed.Close()
}

func (b *Backup) write(f io.Writer, stream *Reader) error {
	archive := zip.NewWriter(f)
	for {
		part, content, err := stream.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		entry := File{Name: b.fileName(part), Part: part}
		w, err := archive.CreateHeader(&zip.FileHeader{Name: entry.Name, Method: zip.Store, Modified: b.Time})
		if err != nil {
			return err
		}
		sum := sha256.New()
		if entry.Size, err = io.Copy(io.MultiWriter(w, sum), content); err != nil {
			return err
		}
		entry.SHA256 = hex.EncodeToString(sum.Sum(nil))
		b.Files = append(b.Files, entry)
	}
	if b.Format = FormatDatabases; slices.ContainsFunc(b.Files, func(f File) bool { return f.Service != nil }) {
		b.Format = FormatServices
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	w, err := archive.CreateHeader(&zip.FileHeader{Name: index, Method: zip.Store, Modified: b.Time})
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return archive.Close()
}

func (b *Backup) fileName(p Part) string {
	switch {
	case p.Kind == KindRoles:
		return "roles.sql"
	case p.Kind == KindPaths:
		n := 1 // a service has a part for each disk of its paths
		for _, f := range b.Files {
			if f.Kind == KindPaths && f.Service.Name == p.Service.Name {
				n++
			}
		}
		if n > 1 {
			return fmt.Sprintf("services/%s.%d.tar", p.Service.Name, n)
		}
		return "services/" + p.Service.Name + ".tar"
	case p.Kind == KindStream:
		return "services/" + p.Service.Name + ".stream"
	case plain.MatchString(p.Database.Name):
		return p.Database.Name + ".dump"
	}
	return fmt.Sprintf("database-%d.dump", len(b.Files)) // its name is in backup.json
}

// An Archive is an open backup.
type Archive struct {
	Backup
	Size  int64 // of the file, in bytes
	file  *os.File
	files map[string]*zip.File
}

// Open opens an archive and reads its index.
func Open(path string, layer Layer) (_ *Archive, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: `sov backup NAME FILE` writes one", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	z, err := openZIP(f, info.Size(), layer)
	if errors.Is(err, zip.ErrFormat) {
		return nil, fmt.Errorf("%s is not a backup, or only a part of one: %w: `sov backup NAME FILE` writes one", path, err)
	}
	if err != nil {
		return nil, err
	}
	a := &Archive{Size: info.Size(), file: f, files: map[string]*zip.File{}}
	for _, f := range z.File {
		a.files[f.Name] = f
	}
	if err := a.readIndex(); err != nil {
		return nil, fmt.Errorf("%s is not a backup that this sov reads: %w", path, err)
	}
	return a, nil
}

func openZIP(content io.ReaderAt, size int64, layer Layer) (_ *zip.Reader, err error) {
	if layer.Open != nil {
		if content, size, err = layer.Open(content, size); err != nil {
			return nil, err
		}
	}
	return zip.NewReader(content, size)
}

func (a *Archive) readIndex() error {
	f := a.files[index]
	if f == nil {
		return errors.New("it lacks " + index)
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxIndex))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &a.Backup); err != nil {
		return fmt.Errorf("%s: %w", index, err)
	}
	if a.Format != FormatDatabases && a.Format != FormatServices {
		return fmt.Errorf("%s: its format is %d, and this sov reads %d and %d: use a newer sov", index, a.Format, FormatDatabases, FormatServices)
	}
	for i, f := range a.Files {
		if err := f.known(); err != nil {
			return fmt.Errorf("%s: %w", index, err)
		}
		misplaced := f.Kind == KindRoles && i > 0 || f.Kind == KindDatabase && i == 0 || f.Service != nil && a.Format == FormatDatabases
		if !f.valid() || misplaced || a.files[f.Name] == nil || a.files[f.Name].Method != zip.Store {
			return fmt.Errorf("%s: its entry for %q does not match the archive", index, f.Name)
		}
	}
	return nil
}

// Close closes the archive.
func (a *Archive) Close() error { return a.file.Close() }

// Databases are the names of those that it holds.
func (b *Backup) Databases() []string {
	var names []string
	for _, f := range b.Files {
		if f.Kind == KindDatabase {
			names = append(names, f.Database.Name)
		}
	}
	return names
}

// Services are the names of those whose data it holds.
func (b *Backup) Services() []string {
	var names []string
	for _, f := range b.Files {
		if f.Service != nil && !slices.Contains(names, f.Service.Name) {
			names = append(names, f.Service.Name)
		}
	}
	return names
}

// A Choice selects parts of an archive.
type Choice struct {
	Databases, Services []string
}

// wants reports whether a part is selected. Roles are selected with databases.
func (c Choice) wants(p Part) bool {
	switch p.Kind {
	case KindRoles:
		return len(c.Databases) > 0
	case KindDatabase:
		return slices.Contains(c.Databases, p.Database.Name)
	}
	return slices.Contains(c.Services, p.Service.Name)
}

// All selects everything in the backup.
func (b *Backup) All() Choice { return Choice{b.Databases(), b.Services()} }

// Verify reads the whole archive and compares lengths and digests.
func (a *Archive) Verify() error {
	for _, f := range a.Files {
		if err := a.copy(io.Discard, f); err != nil {
			return err
		}
	}
	return nil
}

// Send writes the selected parts of the archive as a stream.
func (a *Archive) Send(w *Writer, chosen Choice) error {
	for _, f := range a.Files {
		if !chosen.wants(f.Part) {
			continue
		}
		if err := w.Begin(f.Part); err != nil {
			return err
		}
		if err := a.copy(w, f); err != nil {
			return err
		}
		if err := w.End(); err != nil {
			return err
		}
	}
	return w.Close()
}

func (a *Archive) copy(w io.Writer, f File) error {
	r, err := a.files[f.Name].Open()
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	defer r.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(r, f.Size+1))
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return fmt.Errorf("%s is damaged: it does not have the digest that %s names", f.Name, index)
	}
	return nil
}
