package databases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/host/agefile"
)

// Keys are the keys for an encrypted backup.
type Keys struct {
	Identity string // path of an age identity file or an SSH private key; empty: there is none
	Ask      agefile.Ask
}

// A FileKey opens an encrypted or a plain file.
type FileKey struct {
	recipients int
	key        []byte
}

// Unlock returns the key of a backup's file. It prompts for the identity's passphrase if necessary.
func Unlock(ctx context.Context, path string, keys Keys) (FileKey, error) {
	var k FileKey
	header, err := readHeader(path)
	if header == nil || err != nil {
		return k, err
	}
	var count stanzas
	age.DecryptHeader(header, &count)
	if k.recipients = int(count); k.recipients == 0 {
		return k, unsound(path, errors.New("it names no recipient"))
	}
	to := fmt.Sprintf("%d recipients", k.recipients)
	if k.recipients == 1 {
		to = "1 recipient"
	}
	if keys.Identity == "" {
		return k, fmt.Errorf("%s is encrypted to %s: give --identity FILE or set $SOV_IDENTITY", path, to)
	}
	identities, err := agefile.Identities(ctx, keys.Identity, keys.Ask)
	if err != nil {
		return k, fmt.Errorf("identity %s: %w", keys.Identity, err)
	}
	k.key, err = age.DecryptHeader(header, identities...)
	switch {
	case errors.As(err, new(*age.NoIdentityMatchError)):
		err = fmt.Errorf("%s is encrypted to %s, and the identity %s matches none of them: use another --identity", path, to, keys.Identity)
	case errors.As(err, new(*agefile.IdentityError)):
		err = fmt.Errorf("identity %s: %w", keys.Identity, err)
	case err != nil:
		err = unsound(path, err)
	}
	return k, err
}

// readHeader returns the header of an encrypted file, or nil for other files.
func readHeader(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // Open says what to do
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	start := make([]byte, len(agefile.Header))
	if _, err := io.ReadFull(f, start); err != nil || !agefile.Is(start) {
		return nil, nil
	}
	header, err := age.ExtractHeader(io.MultiReader(bytes.NewReader(start), io.LimitReader(f, maxHeader)))
	if err != nil {
		return nil, unsound(path, err)
	}
	return header, nil
}

// maxHeader bounds the header of an age file, in bytes: room for hundreds of recipients.
const maxHeader = 256 << 10

// stanzas is an identity that only counts the recipients of a header.
type stanzas int

// Unwrap implements age.Identity.
func (n *stanzas) Unwrap(list []*age.Stanza) ([]byte, error) {
	for _, s := range list {
		if !strings.HasSuffix(s.Type, "-grease") { // means nothing (age specification, "Recipient stanza")
			*n++
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// An Archive is a completely verified backup.
type Archive struct {
	*backup.Archive
	Recipients int // number of recipients; 0: not encrypted
}

// Open opens a backup, plain or encrypted, and checks all of it. The caller closes it.
func Open(path string, k FileKey) (*Archive, error) {
	var layer backup.Layer
	if k.recipients > 0 {
		layer.Open = func(file io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
			content, size, err := age.DecryptReaderAt(file, size, age.NewInjectedFileKeyIdentity(k.key))
			if err != nil {
				return nil, 0, unsound(path, err)
			}
			return decrypted{content, path}, size, nil
		}
	}
	a, err := backup.Open(path, layer)
	if err != nil {
		return nil, err
	}
	if err := a.Verify(); err != nil {
		a.Close()
		return nil, err
	}
	return &Archive{a, k.recipients}, nil
}

// unsound returns the error for a file that fails authentication: its header, a chunk, or its
// length.
func unsound(path string, err error) error {
	return fmt.Errorf("%s is not whole, or was changed since it was written: use another backup: %w", path, err)
}

// decrypted is the content of an encrypted file.
type decrypted struct {
	content io.ReaderAt
	path    string
}

// ReadAt implements io.ReaderAt.
func (d decrypted) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.content.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = unsound(d.path, err)
	}
	return n, err
}

// encryption returns the layer for recipients, or that of a plain file if there are none. It can
// open only what it has sealed itself.
func encryption(to []agefile.Recipient) backup.Layer {
	if len(to) == 0 {
		return backup.Layer{}
	}
	w := &witness{Recipient: to[0].Key}
	return backup.Layer{
		Seal: func(file io.Writer) (io.WriteCloser, error) {
			return age.Encrypt(file, append([]age.Recipient{w}, agefile.Keys(to[1:])...)...)
		},
		Open: func(file io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
			return age.DecryptReaderAt(file, size, age.NewInjectedFileKeyIdentity(w.fileKey))
		},
	}
}

// A witness is a recipient that stores the file's key, so that the written file can be read back
// and verified without an identity.
type witness struct {
	age.Recipient
	fileKey []byte
}

// WrapWithLabels implements age.RecipientWithLabels.
func (w *witness) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	w.fileKey = bytes.Clone(fileKey)
	if labelled, ok := w.Recipient.(age.RecipientWithLabels); ok {
		return labelled.WrapWithLabels(fileKey)
	}
	list, err := w.Wrap(fileKey)
	return list, nil, err
}
