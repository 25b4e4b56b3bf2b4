package store

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func sampleRecord() *Record {
	return &Record{
		Key: strings.Repeat("ab", 32), Stage: "packages", Created: time.Unix(1700000000, 0).UTC(), Seconds: 1.5,
		Fields:   []Field{{"recipe", "json", `{"html":"<&>","line":"\u2028"}`}, {"version", "int", "3"}},
		Outputs:  []Output{{"db.tar", Blob{DigestOf([]byte("x")), 1}}},
		Warnings: []string{"package x has <scripts>"},
		Memos:    []string{strings.Repeat("0", 64)},
	}
}

func TestActionRecordRoundTrip(t *testing.T) {
	want := sampleRecord()
	b, err := seal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRecord(b, want.Key)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestActionRecordDamage flips every bit of a record and cuts it at every length. ParseRecord must
// not accept another record.
func TestActionRecordDamage(t *testing.T) {
	a := sampleRecord()
	b, err := seal(a)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b[:len(b)-1] { // the last byte is a line feed outside the JSON
		for bit := range 8 {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << bit
			if got, err := ParseRecord(bad, a.Key); err == nil && !reflect.DeepEqual(got, a) {
				t.Errorf("bit %d of byte %d flipped: accepted as %+v", bit, i, got)
			}
		}
		if _, err := ParseRecord(b[:i], a.Key); err == nil {
			t.Errorf("cut after %d bytes: accepted", i)
		}
	}
}

func FuzzActionRecord(f *testing.F) {
	a := sampleRecord()
	good, err := seal(a)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"digest":"` + string(DigestOf([]byte("{}"))) + `","content":{}}`))
	f.Add([]byte(`{"digest":"` + string(DigestOf([]byte("null"))) + `","content":null}`))
	f.Add([]byte("{}"))
	f.Add([]byte(strings.Repeat("[", 10000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		check(t, b, a.Key)
		// Seal the content, because a fuzzer cannot forge the seal.
		if sealedContent, err := seal(jsonOrString(b)); err == nil {
			check(t, sealedContent, a.Key)
		}
	})
}

// check parses b and checks that an accepted record has the properties that lookup requires.
func check(t *testing.T, b []byte, key string) {
	a, err := ParseRecord(b, key)
	if err != nil {
		return
	}
	if a.Key != key {
		t.Errorf("key %q", a.Key)
	}
	for _, o := range a.Outputs {
		if _, err := ParseDigest(string(o.Digest)); err != nil || !ValidName(o.Name) || o.Size < 0 {
			t.Errorf("output %+v was accepted", o)
		}
	}
	again, err := seal(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRecord(again, key); err != nil {
		t.Errorf("accepted once, refused when written again: %v", err)
	}
}

// jsonOrString returns b as JSON if it is valid JSON, otherwise as a JSON string.
func jsonOrString(b []byte) any {
	if json.Valid(b) {
		return json.RawMessage(b)
	}
	return string(b)
}
