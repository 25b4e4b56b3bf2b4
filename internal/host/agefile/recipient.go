package agefile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"

	"github.com/sovereign-sql/sov/internal/bound"
)

// A Recipient is a recipient of an encrypted file.
type Recipient struct {
	Text string // age1…, or the kind and the key of an SSH public key
	Key  age.Recipient
}

// Keys returns the keys of recipients, for age.
func Keys(list []Recipient) []age.Recipient {
	keys := make([]age.Recipient, len(list))
	for i, r := range list {
		keys[i] = r.Key
	}
	return keys
}

// IsRecipient reports whether a value is a recipient itself, not the name of a file of recipients.
func IsRecipient(value string) bool {
	return strings.HasPrefix(value, "age1") || strings.HasPrefix(value, "ssh-")
}

// Recipients returns the recipients that values name: each is one, or a file with one on each line,
// such as ~/.ssh/id_ed25519.pub. Equal ones count once.
func Recipients(values []string) ([]Recipient, error) {
	var all []Recipient
	seen := map[string]bool{}
	for _, value := range values {
		list, err := named(value)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			if !seen[r.Text] {
				seen[r.Text] = true
				all = append(all, r)
			}
		}
	}
	return all, nil
}

func named(value string) ([]Recipient, error) {
	if IsRecipient(value) {
		r, err := ParseRecipient(value)
		if err != nil {
			return nil, fmt.Errorf("recipient %.80q: %w", value, err)
		}
		return []Recipient{r}, nil
	}
	text, err := bound.ReadFile(value, MaxKeys)
	if err != nil {
		return nil, fmt.Errorf("recipients: %w: give age1…, ssh-ed25519 …, ssh-rsa … or a file of those", err)
	}
	list, err := ParseRecipients(text)
	if err != nil {
		return nil, fmt.Errorf("recipients %s: %w", value, err)
	}
	return list, nil
}

// ParseRecipients reads recipients, one a line, and at least one. Empty lines and those that begin
// with # are comments.
func ParseRecipients(text []byte) ([]Recipient, error) {
	var list []Recipient
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line := strings.TrimSpace(string(line))
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := ParseRecipient(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, errors.New("it holds no recipient")
	}
	return list, nil
}

// ParseRecipient reads one recipient. It ignores a comment after an SSH key.
func ParseRecipient(value string) (r Recipient, err error) {
	switch words := strings.Fields(value); {
	case strings.HasPrefix(value, "AGE-") || strings.HasPrefix(value, "-----BEGIN"):
		return r, errors.New("it is a private key: give its public half, which `age-keygen -y FILE` or `ssh-keygen -y -f FILE` prints")
	case strings.HasPrefix(value, "ssh-") && len(words) > 1:
		r.Text = words[0] + " " + words[1]
		r.Key, err = agessh.ParseRecipient(r.Text)
	case strings.HasPrefix(value, "age1"):
		r.Text = value
		var keys []age.Recipient
		if keys, err = age.ParseRecipients(strings.NewReader(value)); err == nil {
			r.Key = keys[0]
		}
	default:
		err = errors.New("unknown")
	}
	if err != nil {
		return Recipient{}, errors.New("it is not a recipient that sov can encrypt to: must be age1…, ssh-ed25519 … or ssh-rsa … (plugins of age are not run)")
	}
	return r, nil
}
