package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
)

// promises are the blobs that a build goes on with before they are here: a
// record that came from a remote is enough for a hit, and its blobs are
// fetched when a stage opens them. A promise that cannot be kept is broken:
// whatever made the blob runs after all, and after it the stage that wanted
// the blob.
type promises struct {
	mu     sync.Mutex
	from   map[Digest]string // the remote that is to give a blob; "" if it was here
	broken map[Digest]bool
	// void is set when no remote is left to keep any promise.
	void bool
}

func newPromises() *promises {
	return &promises{from: map[Digest]string{}, broken: map[Digest]bool{}}
}

// expected reports whether a blob of a, which is not here, will do.
func (p *promises) expected(a *action, d Digest) bool {
	return a.Remote != "" && p.stands(d)
}

func (p *promises) stands(d Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.void && !p.broken[d]
}

// make adds the blobs of an action that was found or made.
func (p *promises) make(a *action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d := range a.digests() {
		p.from[d] = a.Remote
	}
}

// origin returns the remote that is to give a blob.
func (p *promises) origin(d Digest) (remote string, promised bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	remote = p.from[d]
	return remote, remote != "" && !p.void && !p.broken[d]
}

// breakOne notes that a blob cannot be had, and returns false if that was
// known, or the blob is none that this build counted on. last says that no
// remote is left.
func (p *promises) breakOne(d Digest, last bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.from[d]; !known || p.broken[d] {
		return false
	}
	p.broken[d] = true
	p.void = p.void || last
	return true
}

// breakPromise reports whether err is about a blob that was promised and cannot
// be had, which was not known before: then what makes it can run.
func (b *build) breakPromise(err error) bool {
	var lost *BlobError
	return errors.As(err, &lost) && b.promises.breakOne(lost.Digest, len(b.store.behind.live()) == 0)
}

// adopt takes a remote's record over. It returns nil if there is none.
func (b *build) adopt(key, stage string, fields []Field) (*action, error) {
	a := b.ask(key, stage, fields)
	if a == nil {
		return nil, nil
	}
	ws, err := b.ws.get()
	if err != nil {
		return nil, err
	}
	return a, b.store.save(ws, a)
}

// ask looks for a record in the remotes and returns the first good one, or
// nil.
func (b *build) ask(key, stage string, fields []Field) *action {
	for _, src := range b.store.behind.live() {
		a, err := b.askFor(src, key, stage, fields)
		if err != nil {
			b.store.behind.blame(src, "record of "+stage, err)
			continue
		}
		return a
	}
	return nil
}

// askFor gets a record from one remote. What a record says cannot be checked
// by its key alone, but it must be about the same inputs.
func (b *build) askFor(src *source, key, stage string, fields []Field) (*action, error) {
	raw, err := src.Record(b.store.behind.ctx, key)
	if err != nil {
		return nil, err
	}
	a, err := parseAction(raw, key)
	if err == nil && (a.Stage != stage || !slices.Equal(a.Fields, fields)) {
		err = errors.New("it is about other inputs")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	a.Remote = src.Name()
	for _, o := range a.Outputs {
		if b.store.check(o.Blob) != nil && !b.promises.stands(o.Digest) {
			return nil, fs.ErrNotExist // its blob could not be had before
		}
	}
	return a, nil
}

// portable returns the record as it goes to a remote.
func (a *action) portable() ([]byte, error) {
	out := *a
	out.Remote = ""
	return seal(out)
}
