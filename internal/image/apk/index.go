package apk

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sovereign-sql/sov/internal/bound"
)

const (
	// maxIndexFile is the largest APKINDEX.tar.gz, in bytes; Alpine's largest has 3 MiB.
	maxIndexFile = 256 << 20
	// maxIndexContent is its largest decompressed size.
	maxIndexContent = 1 << 30
	// maxIndexDeps is the largest number of dependencies and provides of all its packages: each is
	// a word of at least two bytes that takes about 70 in memory. Alpine's community repository has
	// 200,000.
	maxIndexDeps = 2 << 20
)

// indexLimit limits an index: Alpine's expand to five or six times their size.
var indexLimit = bound.Limit{Bytes: maxIndexContent, Free: 4 << 20, Ratio: 32}

// An Index is the content of a repository's APKINDEX.tar.gz.
type Index struct {
	Description string // of the repository, such as "v3.20.3-120-gf4a4ae1"
	Packages    []*Package
	Key         string // name of the key whose signature was verified; empty without verification
}

// ReadIndex reads an APKINDEX.tar.gz and verifies its signature, RSA with SHA-1, SHA-256 or
// SHA-512, by one of keys. An index without a valid signature is refused, unless keys is nil.
func ReadIndex(r io.Reader, keys Keys) (*Index, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxIndexFile+1))
	if err != nil {
		return nil, fmt.Errorf("read package index: %w", err)
	}
	if len(data) > maxIndexFile {
		return nil, fmt.Errorf("read package index: larger than %d MiB", maxIndexFile>>20)
	}
	index, err := readIndex(data, keys)
	if err != nil {
		return nil, fmt.Errorf("read package index: %w", err)
	}
	return index, nil
}

func readIndex(data []byte, keys Keys) (*Index, error) {
	r, size := bytes.NewReader(data), int64(len(data))
	m, err := readMember(r, 0, size, signatureLimit)
	if errors.Is(err, bound.ErrTooLarge) {
		m, err = &member{}, nil // not a signature: the index is unsigned, and has a larger limit
	}
	if err != nil {
		return nil, err
	}
	sigs, err := parseSignatures(m.content)
	if err != nil {
		return nil, err
	}
	signedFrom := int64(0)
	if sigs != nil {
		signedFrom = m.end
	}
	key := ""
	if keys != nil {
		if key, err = verifySignatures(sigs, keys, bytes.NewReader(data[signedFrom:])); err != nil {
			return nil, fmt.Errorf("index %w", err)
		}
		if err := checkPlain(r, m); err != nil {
			return nil, fmt.Errorf("signature member: %w", err)
		}
	}
	index, err := parseIndexMembers(r, signedFrom, size)
	if err != nil {
		return nil, err
	}
	index.Key = key
	return index, nil
}

// parseIndexMembers reads the files of the gzip members from offset to the end.
func parseIndexMembers(r io.ReaderAt, offset, size int64) (*Index, error) {
	index := &Index{}
	found := false
	for offset < size {
		m, err := readMember(r, offset, size, indexLimit)
		if err != nil {
			return nil, err
		}
		offset = m.end
		tr := tar.NewReader(bytes.NewReader(m.content))
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			content := io.LimitReader(tr, maxIndexContent)
			switch h.Name {
			case "DESCRIPTION":
				b, err := io.ReadAll(io.LimitReader(content, maxLine))
				if err != nil {
					return nil, fmt.Errorf("DESCRIPTION: %w", err)
				}
				index.Description = strings.TrimSpace(string(b))
			case "APKINDEX":
				found = true
				if index.Packages, err = parseIndex(content); err != nil {
					return nil, fmt.Errorf("APKINDEX: %w", err)
				}
			}
		}
	}
	if !found {
		return nil, errors.New("it contains no APKINDEX")
	}
	return index, nil
}

// parseIndex reads the text of an index: entries of lines "key:value", each ended by an empty line.
func parseIndex(r io.Reader) ([]*Package, error) {
	var packages []*Package
	var p *Package
	deps := 0
	finish := func() error {
		if p == nil {
			return nil
		}
		if err := p.check(); err != nil {
			return err
		}
		if deps += len(p.Depends) + len(p.Provides) + len(p.InstallIf) + len(p.Replaces); deps > maxIndexDeps {
			return fmt.Errorf("its packages require and provide more than %d things: %w", maxIndexDeps, bound.ErrTooLarge)
		}
		packages, p = append(packages, p), nil
		return nil
	}
	err := eachLine(r, func(_ int, line string) error {
		if line == "" {
			return finish()
		}
		key, value, err := splitField(line)
		if err != nil {
			return err
		}
		if p == nil {
			p = &Package{}
		}
		_, err = p.setField(key, value)
		return err
	})
	if err != nil {
		return nil, err
	}
	return packages, finish()
}
