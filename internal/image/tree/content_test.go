package tree

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func sparse(size int64, extents ...Extent) Content { return Content{Size: size, Extents: extents} }

func TestContentReads(t *testing.T) {
	src := strings.NewReader("0123456789")
	for _, c := range []struct {
		content Content
		want    string
	}{
		{Bytes(nil), ""},
		{Bytes([]byte("abc")), "abc"},
		{Section(src, 2, 3), "234"},
		{sparse(4), "\x00\x00\x00\x00"},
		{sparse(9, Extent{2, 2, src, 5}, Extent{4, 1, src, 0}, Extent{7, 1, src, 9}), "\x00\x00560\x00\x009\x00"},
	} {
		if err := c.content.Validate(); err != nil {
			t.Error(err)
		}
		if err := iotest.TestReader(c.content.Open(), []byte(c.want)); err != nil {
			t.Errorf("%q: %v", c.want, err)
		}
	}
}

func TestContentOfShortSource(t *testing.T) {
	got, err := io.ReadAll(Section(strings.NewReader("0123"), 2, 5).Open())
	if string(got) != "23" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestContentValidate(t *testing.T) {
	src := strings.NewReader("0123456789")
	for name, c := range map[string]Content{
		"negative size":   {Size: -1},
		"overlap":         sparse(9, Extent{0, 5, src, 0}, Extent{4, 1, src, 0}),
		"out of order":    sparse(9, Extent{5, 1, src, 0}, Extent{0, 1, src, 0}),
		"behind the end":  sparse(9, Extent{5, 5, src, 0}),
		"overflow":        sparse(9, Extent{5, 1<<63 - 1, src, 0}),
		"empty":           sparse(9, Extent{5, 0, src, 0}),
		"without source":  sparse(9, Extent{5, 1, nil, 0}),
		"negative source": sparse(9, Extent{5, 1, src, -1}),
	} {
		if c.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
}
