package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// An action is what is stored under a key: which blobs came out, and enough
// to tell people about it.
type action struct {
	Key     string    `json:"key"`
	Stage   string    `json:"stage"`
	Memo    string    `json:"memo,omitempty"` // the memo's own key, if it is one
	Created time.Time `json:"created"`
	Seconds float64   `json:"seconds"` // how long it took to make
	Fields  []Field   `json:"fields"`
	Outputs []Output  `json:"outputs"`
	// Warnings are shown again whenever the record is used.
	Warnings []string `json:"warnings,omitempty"`
	// Memos are keys of the memos used, which live as long as this is used.
	Memos []string `json:"memos,omitempty"`
	// Remote is the remote cache that has, or had, blobs that may not be
	// here; "" if they all were when this was written.
	Remote string `json:"remote,omitempty"`
}

// A sealed file is JSON with the digest of the part that matters, by which
// damage is recognised.
type sealed struct {
	Digest  Digest          `json:"digest"`
	Content json.RawMessage `json:"content"`
}

func seal(v any) ([]byte, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(sealed{DigestOf(content), content})
	return append(b, '\n'), err
}

// unseal decodes what seal made into v.
func unseal(b []byte, v any) error {
	var s sealed
	if err := strictJSON(b, &s); err != nil {
		return err
	}
	if DigestOf(s.Content) != s.Digest {
		return errors.New("its content does not match its digest")
	}
	return strictJSON(s.Content, v)
}

// strictJSON decodes the single value in b and refuses unknown fields.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is more after the end")
	}
	return nil
}

// parseAction decodes and checks an action record that should be about key.
func parseAction(b []byte, key string) (*action, error) {
	var a action
	if err := unseal(b, &a); err != nil {
		return nil, err
	}
	if a.Key != key {
		return nil, fmt.Errorf("it is the record of %.64q", a.Key)
	}
	names := map[string]bool{}
	for _, o := range a.Outputs {
		if _, err := ParseDigest(string(o.Digest)); err != nil {
			return nil, fmt.Errorf("output %q: %w", o.Name, err)
		}
		if !validName(o.Name) || names[o.Name] || o.Size < 0 {
			return nil, fmt.Errorf("output %q of %d bytes: bad or repeated name, or bad size", o.Name, o.Size)
		}
		names[o.Name] = true
	}
	for _, m := range a.Memos {
		if !isHex64(m) {
			return nil, fmt.Errorf("memo %.64q is not a key", m)
		}
	}
	return &a, nil
}

// A missReason says why there is no usable record under a key.
type missReason struct {
	text string // "" if there never was one, or no longer is
	// damage is true if there was one, and it or one of its blobs was bad.
	damage bool
}

// load returns the action under key without a look at its blobs.
func (s *Store) load(key string) (*action, *missReason, error) {
	b, err := os.ReadFile(s.actionPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missReason{}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	a, err := parseAction(b, key)
	if err != nil {
		return nil, &missReason{fmt.Sprintf("its record in the cache is damaged: %v", err), true}, nil
	}
	return a, nil, nil
}

// lookup returns the action under key if it and its blobs are good. A blob
// that is not here will do if expected says so. The error is for troubles
// other than that.
func (s *Store) lookup(key string, expected func(*action, Digest) bool) (*action, *missReason, error) {
	a, miss, err := s.load(key)
	if a == nil {
		return nil, miss, err
	}
	for _, o := range a.Outputs {
		err := s.check(o.Blob)
		var bad *BlobError
		if errors.As(err, &bad) {
			if bad.Missing && a.Remote != "" {
				if expected(a, o.Digest) {
					continue
				}
				return nil, &missReason{text: fmt.Sprintf("%s is not here, and %s does not give it", o.Name, a.Remote)}, nil
			}
			return nil, &missReason{fmt.Sprintf("%s: %v", o.Name, bad), true}, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("check %s: %w", o.Name, err)
		}
	}
	return a, nil, nil
}

// use notes that a and the memos behind it were used at now.
func (s *Store) use(a *action, now time.Time) {
	s.touch(a.Key, now)
	for _, m := range a.Memos {
		s.touch(m, now)
	}
}

// save writes an action record.
func (s *Store) save(ws *workspace, a *action) error {
	b, err := seal(a)
	if err == nil {
		err = writeFileAtomic(ws, s.actionPath(a.Key), b)
	}
	if err != nil {
		return s.advise(fmt.Errorf("record result: %w", err))
	}
	s.touch(a.Key, a.Created)
	return nil
}

// SameResult reports whether two records under key, as a Remote is given
// them, are sound and name the same outputs.
func SameResult(a, b []byte, key string) bool {
	one, err := parseAction(a, key)
	if err != nil {
		return false
	}
	other, err := parseAction(b, key)
	return err == nil && slices.Equal(one.Outputs, other.Outputs)
}
