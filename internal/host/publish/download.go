package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/oci"
)

// Download writes the machine's files into dir, several at a time. It resumes: of a file that
// exists only the rest is fetched. When it returns without an error, every file has its digest of
// the machine's manifest.
func (m *Machine) Download(ctx context.Context, dir string) error {
	m.o.Task.Step("fetch " + m.Manifest.Name)
	for _, l := range m.layers {
		m.o.Task.Grow(l.Size)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, l := range m.layers {
		group.Go(func() error {
			name := l.Annotations[titleKey]
			if err := m.downloadFile(ctx, filepath.Join(dir, name), l); err != nil {
				return fmt.Errorf("fetch %s of %s: %w", name, m.Reference, err)
			}
			return nil
		})
	}
	err := group.Wait()
	if err == nil && m.documents[artifact.SignedFile] != nil {
		err = m.write(dir, artifact.SignedFile)
	}
	return err
}

// downloadFile fetches the rest of a file. It does not use a durable.File, so that an interrupted
// download keeps what it has written. Place moves the complete files to a folder that is replaced
// as a whole.
func (m *Machine) downloadFile(ctx context.Context, path string, d v1.Descriptor) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	err = fetch.Retry(ctx, 0, m.o.Pause, func() error { return m.rest(ctx, f, d) })
	if err == nil {
		err = f.Sync()
	}
	return err
}

// rest fetches the rest of a file and checks the digest of the whole. A file with a wrong digest is
// truncated, so that the next attempt starts from the beginning.
func (m *Machine) rest(ctx context.Context, f *os.File, d v1.Descriptor) error {
	sum := sha256.New()
	have, err := rehash(ctx, f, sum, d.Size)
	if err != nil {
		return err
	}
	m.o.Task.Add(have)
	resumed := have > 0
	size := have
	if have < d.Size {
		if size, err = m.receive(ctx, f, sum, d, have); err != nil {
			m.o.Task.Add(-size)
			return err
		}
	}
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	if got == d.Digest && size == d.Size {
		return nil
	}
	m.o.Task.Add(-size)
	err = &corruptError{d, got, size}
	if size >= d.Size {
		err = errors.Join(err, f.Truncate(0))
		if resumed {
			// The part from an earlier download may have been corrupt: retry.
			err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
		}
	}
	return err
}

// rehash adds the existing content of a file to sum and leaves the offset at its end. It truncates
// a file that is larger than the blob.
func rehash(ctx context.Context, f *os.File, sum hash.Hash, want int64) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() > want {
		if err := f.Truncate(0); err != nil {
			return 0, err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return copyContext(ctx, sum, f)
}

// receive appends the rest of a blob to f and to sum and returns the size of f, also after an
// error.
func (m *Machine) receive(ctx context.Context, f *os.File, sum hash.Hash, d v1.Descriptor, have int64) (int64, error) {
	body, from, err := m.blob(ctx, d, have)
	if err != nil {
		return have, err
	}
	defer body.Close()
	if from == 0 && have > 0 { // the registry does not support ranges
		if err := f.Truncate(0); err != nil {
			return have, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return have, err
		}
		sum.Reset()
		m.o.Task.Add(-have)
	}
	n, err := copyContext(ctx, io.MultiWriter(f, sum), m.o.Task.Reader(io.LimitReader(body, d.Size-from+1)))
	return from + n, err
}

// copyContext is io.Copy that ends with ctx.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (n int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(buf)
		if k > 0 {
			if _, err := w.Write(buf[:k]); err != nil {
				return n, err
			}
			n += int64(k)
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// blob requests a blob from an offset on. It returns the offset at which the body begins: that one
// or, from a registry without ranges, zero.
func (m *Machine) blob(ctx context.Context, d v1.Descriptor, offset int64) (body io.ReadCloser, from int64, err error) {
	u := url.URL{Scheme: m.repository.Scheme(), Host: m.repository.RegistryStr(),
		Path: fmt.Sprintf("/v2/%s/blobs/%s", m.repository.RepositoryStr(), d.Digest)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, d.Size-1))
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return nil, 0, oci.ExplainAnswer(err)
	}
	begins := fmt.Sprintf("bytes %d-", offset) // RFC 9110, section 14.4
	switch {
	case resp.StatusCode == http.StatusPartialContent && offset > 0 && strings.HasPrefix(resp.Header.Get("Content-Range"), begins):
		return resp.Body, offset, nil
	case resp.StatusCode == http.StatusOK:
		return resp.Body, 0, nil
	}
	resp.Body.Close()
	if offset > 0 && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return m.blob(ctx, d, 0) // the registry does not support ranges
	}
	if resp.StatusCode == http.StatusNotFound {
		return nil, 0, fmt.Errorf("the registry does not have it: %w", fs.ErrNotExist)
	}
	return nil, 0, &fetch.StatusError{URL: u.String(), Code: resp.StatusCode, Status: resp.Status}
}
