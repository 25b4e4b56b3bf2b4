package packages

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// dbOutput is the output with apk's changes other than the packages' files.
const dbOutput = "db" + overlay.Suffix

// filesOutput is the name of the output with a package's files.
func filesOutput(p lock.Package) string { return p.Name + "-" + p.Version + overlay.Suffix }

// An opener opens a blob.
type opener func(pipeline.Blob) (*os.File, error)

// withPackage calls fn with the package in a blob.
func withPackage(b pipeline.Blob, open opener, fn func(*apk.File) error) error {
	f, err := open(b)
	if err != nil {
		return err
	}
	defer f.Close()
	pkg, err := apk.OpenPackage(f, b.Size)
	if err != nil {
		return err
	}
	return fn(pkg)
}

// verify compares a package with its lock entry.
func verify(pkg *apk.File, p lock.Package) error {
	if err := pkg.Verify(nil, apk.Checksum(p.Checksum)); err != nil {
		return err
	}
	if id := pkg.Info().ID(); id != p.Name+"-"+p.Version {
		return fmt.Errorf("it is %s", id)
	}
	if p.SHA256 == "" {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, pkg.Content()); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("its content has SHA-256 %s, and the lock has %s", got, p.SHA256)
	}
	return nil
}

// checkFiles returns an error unless the blob is the uncompressed data of a package whose file has
// been verified.
func checkFiles(b pipeline.Blob, p lock.Package, file pipeline.Blob, open opener) error {
	want := pipeline.Digest("sha256:" + p.Files)
	if p.Files == "" {
		h := sha256.New()
		if err := withPackage(file, open, func(pkg *apk.File) error { return pkg.DataTar(h) }); err != nil {
			return err
		}
		want = pipeline.Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
	}
	return pipeline.IsDigest(want)(b)
}

// attachFile adds a package without its signature as an output, so that the outputs do not depend
// on the signature. Caches of older versions of sov have files with a signature.
func (s *stage) attachFile(j *pipeline.Job, p lock.Package, file pipeline.Blob) error {
	return withPackage(file, j.Open, func(pkg *apk.File) error {
		if !pkg.Signed() {
			return j.Attach(FileOutput(p), file)
		}
		w, err := j.Create(FileOutput(p))
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := io.Copy(w, pkg.Content()); err != nil {
			return err
		}
		_, err = w.Commit()
		return err
	})
}

// CheckPins compares packages and their files with the lock. If the lock has digests, it reads
// nothing; otherwise it reads the packages and compares their checksums. The database and the list
// are generated and are not in the lock.
func (s *stage) CheckPins(outputs []pipeline.Output, open func(pipeline.Blob) (*os.File, error)) error {
	var want []pipeline.Output
	for _, p := range s.Packages {
		files, file := pipeline.Output{Name: filesOutput(p)}, pipeline.Output{Name: FileOutput(p)}
		if p.SHA256 != "" && p.Files != "" {
			files.Digest, file.Digest = pipeline.Digest("sha256:"+p.Files), pipeline.Digest("sha256:"+p.SHA256)
		}
		want = append(want, files, file)
	}
	if len(s.Packages)+len(s.Removed)+len(s.Recipe.Packages.Install) > 0 {
		want = append(want, pipeline.Output{Name: dbOutput})
	}
	if err := output.Compare(outputs, append(want, pipeline.Output{Name: ListFile})); err != nil {
		return err
	}
	for i, p := range s.Packages {
		if want[2*i].Digest != "" {
			continue
		}
		files, file := outputs[2*i], outputs[2*i+1]
		err := withPackage(file.Blob, open, func(pkg *apk.File) error {
			if pkg.Signed() {
				return fmt.Errorf("it has a signature, which this stage leaves out")
			}
			return verify(pkg, p)
		})
		if err == nil {
			err = checkFiles(files.Blob, p, file.Blob, open)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
	}
	return nil
}

// Digests returns packages with the digests of the stage's outputs, and whether that added any.
func Digests(list []lock.Package, made output.Source) (out []lock.Package, more bool) {
	for _, p := range list {
		file, ok := output.Find(made, Name, FileOutput(p))
		files, filesToo := output.Find(made, Name, filesOutput(p))
		if p.SHA256 == "" && ok && filesToo {
			p.SHA256, p.Files, more = file.Digest.Hex(), files.Digest.Hex(), true
		}
		out = append(out, p)
	}
	return out, more
}
