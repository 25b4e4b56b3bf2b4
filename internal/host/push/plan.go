package push

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/sovereign-sql/sov/internal/chunk"
	"github.com/sovereign-sql/sov/internal/contract/pushapi"
)

// A base is a file on the phone whose chunks can be used.
type base struct {
	pushapi.Base
	chunks chunk.List
}

// A step is an instruction for a file, with the offset of the bytes of Data in it.
type step struct {
	pushapi.Instruction
	at int64
}

// A plan lists the instructions by which the phone makes an artifact's files.
type plan struct {
	steps [][]step // of each file
	data  int64    // bytes that are sent, before compression
	kept  int64    // bytes received in an earlier push
}

// A place is a chunk's file and offset on the phone.
type place struct {
	base   int
	offset int64
	size   int
}

// newPlan decides where each chunk comes from: from the part of the file that an earlier push sent,
// if that is its beginning; else from another file on the phone; else from this computer.
func newPlan(a *Artifact, bases []base) *plan {
	p := &plan{}
	keep := make([]int, len(a.files)) // chunks
	have := map[chunk.Name]place{}
	for i, b := range bases {
		chunks := b.chunks
		if b.Part > 0 && b.Part <= len(a.files) {
			k := common(a.files[b.Part-1].chunks, chunks)
			keep[b.Part-1] = k
			if k > 0 {
				chunks = chunks[:k] // the rest is discarded
			}
		}
		var offset int64
		for _, c := range chunks {
			if _, known := have[c.Name]; !known && !c.Zero {
				have[c.Name] = place{i, offset, c.Size}
			}
			offset += int64(c.Size)
		}
	}
	for i, f := range a.files {
		p.steps = append(p.steps, p.file(f, keep[i], have))
	}
	return p
}

// common returns the length of the common prefix of two lists, in chunks.
func common(a, b chunk.List) int {
	n := 0
	for n < len(a) && n < len(b) && a[n].Equal(b[n]) {
		n++
	}
	return n
}

func (p *plan) file(f file, keep int, have map[chunk.Name]place) []step {
	var steps []step
	var at int64
	for i, c := range f.chunks {
		s := step{pushapi.Instruction{Op: pushapi.Data, Length: int64(c.Size)}, at}
		where, known := have[c.Name]
		switch {
		case i < keep:
			s.Op = pushapi.Keep
			p.kept += s.Length
		case c.Zero:
			s.Op = pushapi.Zero
		case known && where.size == c.Size:
			s.Op, s.Base, s.Offset = pushapi.Copy, where.base, where.offset
		default:
			p.data += s.Length
		}
		at += s.Length
		if n := len(steps); n > 0 && follows(steps[n-1], s) {
			steps[n-1].Length += s.Length
		} else {
			steps = append(steps, s)
		}
	}
	return steps
}

// follows reports whether two steps can be merged.
func follows(a, b step) bool {
	if a.Op != b.Op {
		return false
	}
	switch a.Op {
	case pushapi.Copy:
		return a.Base == b.Base && a.Offset+a.Length == b.Offset
	case pushapi.Data:
		return a.Length+b.Length <= pushapi.MaxData
	}
	return true
}

// write sends the plan's instructions. sent is called with the number of bytes of Data sent.
func (p *plan) write(ctx context.Context, w io.Writer, files []file, sent func(int64)) error {
	b := bufio.NewWriterSize(w, 256<<10)
	for i, f := range files {
		if err := writeFile(ctx, b, f, p.steps[i], sent); err != nil {
			return err
		}
	}
	return b.Flush()
}

func writeFile(ctx context.Context, w io.Writer, f file, steps []step, sent func(int64)) error {
	src, err := os.Open(f.path)
	if err != nil {
		return sourceError{err}
	}
	defer src.Close()
	for _, s := range steps {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if _, err := w.Write(s.Append(nil)); err != nil {
			return err
		}
		if s.Op != pushapi.Data {
			continue
		}
		content := make([]byte, s.Length)
		if _, err := src.ReadAt(content, s.at); err != nil {
			return sourceError{fmt.Errorf("%s has changed while it was sent: %w", f.path, err)}
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
		sent(s.Length)
	}
	return nil
}

// A sourceError is an error of reading a file on this computer.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }
