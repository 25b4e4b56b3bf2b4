package publish

import (
	"context"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sovereign-sql/sov/internal/artifact/dsse"
)

// A Fetched describes a machine that was downloaded from a registry.
type Fetched struct {
	Dir       string `json:"dir"`
	Reference string `json:"reference"` // with the digest
	Name      string `json:"name"`
	Version   string `json:"version"`
	Arch      string `json:"arch"`
	SignedBy  string `json:"signed_by,omitempty"` // ID of the key
	Serial    int64  `json:"serial,omitempty"`    // of its signature
	Proven    bool   `json:"proven"`              // the signature was verified with the given key
	Changed   bool   `json:"changed"`
}

// Fetch downloads the machine for an architecture under a reference to OUT/NAME/ARCH, see Open and
// Place.
func Fetch(ctx context.Context, ref name.Reference, arch string, key dsse.PublicKey, out string, replace Replacer, o Options) (*Fetched, error) {
	m, err := Open(ctx, ref, arch, key, o)
	if err != nil {
		return nil, err
	}
	f := &Fetched{
		Reference: m.Reference, Name: m.Manifest.Name, Version: m.Manifest.Version, Arch: arch,
		SignedBy: m.SignedBy, Serial: m.Serial, Proven: key != nil,
	}
	if f.Dir, f.Changed, err = m.Place(ctx, out, replace); err == nil {
		err = m.Remember(key)
	}
	return f, err
}
