package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/strictjson"
)

// An entry is a resource with its owners. In the ledger it is one flat object: the resource's kind
// and fields, then the entry's own. Every release since the first writes the same keys.
type entry struct {
	resource `json:"-"`
	Owners   []string `json:"owners"`           // names of machines; the resource is removed with the last one
	Found    bool     `json:"found,omitempty"`  // it existed before, and stays
	Before   string   `json:"before,omitempty"` // sysctl: its previous value
}

type (
	// entryKind is the part of an entry that selects the resource's type.
	entryKind struct {
		Kind string `json:"kind"`
	}
	// entryFields are the entry's own: an entry without its method MarshalJSON.
	entryFields entry
)

// entryKeys are the keys of entryKind and entryFields. All others are the resource's.
var entryKeys = []string{"kind", "owners", "found", "before"}

// kinds maps the name of a kind to the decoder of its fields.
var kinds = map[string]func(fields []byte) (resource, error){
	tap{}.kind():       decodeFields[tap],
	address{}.kind():   decodeFields[address],
	rule{}.kind():      decodeFields[rule],
	route{}.kind():     decodeFields[route],
	sysctl{}.kind():    decodeFields[sysctl],
	chain{}.kind():     decodeFields[chain],
	requester{}.kind(): decodeFields[requester],
}

func decodeFields[R resource](fields []byte) (resource, error) {
	var r R
	err := strictjson.Unmarshal(fields, &r)
	return r, err
}

// MarshalJSON joins three objects, none of which is empty, into one.
func (e entry) MarshalJSON() ([]byte, error) {
	var members [][]byte
	for _, part := range []any{entryKind{e.kind()}, e.resource, entryFields(e)} {
		object, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		members = append(members, object[1:len(object)-1])
	}
	return slices.Concat([]byte("{"), bytes.Join(members, []byte(",")), []byte("}")), nil
}

// decodeEntry decodes the format of MarshalJSON. It refuses entries that this package never writes:
// undoing them could do harm.
func decodeEntry(src []byte) (entry, error) {
	var own struct {
		entryKind
		entryFields
	}
	if err := json.Unmarshal(src, &own); err != nil {
		return entry{}, err
	}
	e := entry(own.entryFields)
	if len(e.Owners) == 0 {
		return e, errors.New("it has no owner")
	}
	for _, owner := range e.Owners {
		if err := artifact.CheckName(owner); err != nil {
			return e, fmt.Errorf("its owner: %w", err)
		}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(src, &fields); err != nil {
		return e, err
	}
	for _, key := range entryKeys {
		delete(fields, key)
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return e, err
	}
	decode, known := kinds[own.Kind]
	if known {
		if e.resource, err = decode(rest); err != nil {
			return e, err
		}
	}
	if !known || !e.valid() {
		return e, fmt.Errorf("it describes no %q that this program makes", own.Kind)
	}
	return e, nil
}
