package pushapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	c := NewConn(&wire, &wire)
	if err := c.WriteFrame(KindData, make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame that is too long was written")
	}
	long := bytes.Repeat([]byte("abc"), MaxFrame) // three frames
	if _, err := c.Writer(KindData).Write(long); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteFrame(KindEnd, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(KindRefusal, &Refusal{Code: CodeSpace, Text: "full"}); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c.Reader(KindData, KindEnd))
	if err != nil || !bytes.Equal(got, long) {
		t.Errorf("%d bytes: %v", len(got), err)
	}
	var d Done
	refusal := &Refusal{}
	if err := c.Receive(KindDone, &d); !errors.As(err, &refusal) || refusal.Code != CodeSpace || err.Error() != "full" {
		t.Errorf("a refusal in place of an answer: %v", err)
	}
}

func TestBrokenFrames(t *testing.T) {
	for _, c := range []struct{ wire, says string }{
		{"", "EOF"}, {"d\x00", "unexpected EOF"}, {"d\x00\x00\x00\x05abc", "unexpected EOF"},
		{"d\xff\xff\xff\xff", "more than any has"}, {"D\x00\x00\x00\x00", "not expected here"},
		{"r\x00\x00\x00\x01x", "not JSON"},
	} {
		_, err := io.ReadAll(NewConn(strings.NewReader(c.wire), nil).Reader(KindData, KindEnd))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %q", c.wire, err, c.says)
		}
	}
}

func TestAccept(t *testing.T) {
	for wire, says := range map[string]string{
		Magic: "", "": "said nothing", "su: no": `sent "su: no"`, "sh: sov-runner: not found\n": `"sh: sov-runner: not found"`,
	} {
		err := NewConn(strings.NewReader(wire), nil).Accept()
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", wire, err, says)
		}
	}
}

func TestOffer(t *testing.T) {
	var wire bytes.Buffer
	c := NewConn(&wire, &wire)
	offer := Offer{Manifest: bytes.Repeat([]byte("manifest "), 1000), Spec: []byte("{}"), Data: []int64{1, 2}, Fresh: true}
	if err := c.SendOffer(offer); err != nil {
		t.Fatal(err)
	}
	kind, payload, err := c.ReadFrame()
	if err != nil || kind != KindOffer || len(payload) > 1000 {
		t.Fatalf("%q, %d bytes, %v", kind, len(payload), err)
	}
	got, err := DecodeOffer(payload)
	if err != nil || !reflect.DeepEqual(*got, offer) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.SendOffer(Offer{Manifest: make([]byte, maxOffer)}); err == nil {
		t.Error("an offer that is too long was sent")
	}
}

var instructions = []Instruction{
	{Op: Keep, Length: 5}, {Op: Copy, Base: 3, Offset: 1 << 40, Length: 1 << 30}, {Op: Zero, Length: 4096}, {Op: Data, Length: MaxData},
}

func TestInstruction(t *testing.T) {
	for _, want := range instructions {
		b := want.Append(nil)
		got, err := ReadInstruction(bufio.NewReader(bytes.NewReader(b)), want.Length)
		if err != nil || got != want {
			t.Errorf("%+v: %+v, %v", want, got, err)
		}
		if _, err := ReadInstruction(bufio.NewReader(bytes.NewReader(b)), want.Length-1); err == nil {
			t.Errorf("%+v makes more than is wanted", want)
		}
		for n := range b {
			if _, err := ReadInstruction(bufio.NewReader(bytes.NewReader(b[:n])), want.Length); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%+v, cut at %d: %v", want, n, err)
			}
		}
	}
	for _, b := range []string{"x\x01", "z\x00", "d\x81\x80\x80\x01", "c\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x01", "c\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01"} {
		if i, err := ReadInstruction(bufio.NewReader(strings.NewReader(b)), 1<<40); err == nil {
			t.Errorf("%q is %+v", b, i)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("d\x00\x00\x00\x03abce\x00\x00\x00\x00"))
	f.Add([]byte("r\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Text.Watch(t, len(b))()
		c := NewConn(bytes.NewReader(b), nil)
		io.Copy(io.Discard, c.Reader(KindData, KindEnd))
		var h Hello
		c.Receive(KindHello, &h)
	})
}

func FuzzInstruction(f *testing.F) {
	for _, i := range instructions {
		f.Add(i.Append(nil), int64(1<<40))
	}
	f.Fuzz(func(t *testing.T, b []byte, left int64) {
		defer costtest.Text.Watch(t, len(b))()
		i, err := ReadInstruction(bufio.NewReader(bytes.NewReader(b)), max(left, 0))
		if err == nil && (i.Length < 1 || i.Length > left || i.Offset < 0 || i.Offset+i.Length < 0 || i.Base < 0) {
			t.Errorf("%+v of at most %d", i, left)
		}
	})
}

func FuzzOffer(f *testing.F) {
	var wire bytes.Buffer
	NewConn(nil, &wire).SendOffer(Offer{Manifest: []byte("m"), Spec: []byte("s"), Data: []int64{1}})
	f.Add(wire.Bytes()[5:])
	f.Fuzz(func(t *testing.T, b []byte) {
		defer costtest.Budget{Base: 4 * maxOffer, Ratio: 256}.Watch(t, len(b))()
		DecodeOffer(b)
	})
}
