package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/sovereign-sql/sov/pipeline/store"
)

// A Job is one run of a stage: it reads inputs and writes outputs. Its methods may be called by
// several goroutines. Outputs that are not committed when Run returns are removed.
type Job struct {
	build *build
	stage string
	in    *inputs
	task  *Task

	mu       sync.Mutex
	outputs  []*pendingOutput // in the order they were created
	warnings []string
	memos    []string
	scratch  []func() error // remove scratch directories
	remote   string         // a remote cache with attached blobs that the local store lacks
	from     string         // the remote cache of a memo that was not checked by digest
	signer   string         // of that memo
	finished bool
}

// A pendingOutput is an output that was created and may not be committed yet. Its position in the
// list of outputs is fixed.
type pendingOutput struct {
	Output
	committed bool
	writer    *Writer // nil if the blob was attached
}

// errJobFinished is the error of a Job's methods after Run has returned.
var errJobFinished = errors.New("job used after its stage returned")

// maxReadFile limits ReadFile, in bytes.
const maxReadFile = 64 << 20

// Outputs returns what a needed stage made, in the order it created them.
func (j *Job) Outputs(stage string) []Output { return j.in.Outputs(stage) }

// Output returns one output of a needed stage.
func (j *Job) Output(stage, name string) (Blob, error) {
	for _, o := range j.in.Outputs(stage) {
		if o.Name == name {
			return o.Blob, nil
		}
	}
	return Blob{}, fmt.Errorf("stage %s has no output %q", stage, name)
}

// Open opens a blob for reading and checks it against its digest. Package store documents when it
// is hashed.
func (j *Job) Open(b Blob) (*os.File, error) {
	if !j.build.store.Local().Has(b.Digest) {
		defer j.task.Interlude("fetch from the remote cache")()
	}
	return j.build.store.Open(b)
}

// ReadFile returns an output of a needed stage, of at most 64 MiB.
func (j *Job) ReadFile(stage, name string) ([]byte, error) {
	b, err := j.Output(stage, name)
	if err != nil {
		return nil, err
	}
	if b.Size > maxReadFile {
		return nil, fmt.Errorf("read %s of stage %s: %d bytes are too many to read at once", name, stage, b.Size)
	}
	f, err := j.Open(b)
	if err != nil {
		return nil, fmt.Errorf("read %s of stage %s: %w", name, stage, err)
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Create begins the output called name. Outputs keep the order of their creation, not of their
// commits.
func (j *Job) Create(name string) (*Writer, error) {
	p, err := j.reserve(name)
	if err != nil {
		return nil, err
	}
	w, err := j.build.store.Local().Create(func(b Blob, err error) { j.settle(p, b, err) })
	if err != nil {
		j.settle(p, Blob{}, err)
		return nil, fmt.Errorf("create output %s: %w", name, err)
	}
	j.mu.Lock()
	p.writer = w
	j.mu.Unlock()
	return w, nil
}

// Write makes b the output called name.
func (j *Job) Write(name string, b []byte) (Blob, error) {
	w, err := j.Create(name)
	if err != nil {
		return Blob{}, err
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		return Blob{}, fmt.Errorf("write output %s: %w", name, err)
	}
	return w.Commit()
}

// Attach makes a blob that is in the store, such as one from Memo or an input, the output called
// name.
func (j *Job) Attach(name string, b Blob) error {
	local := j.build.store.Local()
	if err := local.Check(b); err != nil {
		remote := j.in.remotes[b.Digest]
		if remote == "" || local.Lost(b.Digest) {
			return fmt.Errorf("attach output %s: %w", name, err)
		}
		j.mu.Lock()
		j.remote = remote
		j.mu.Unlock()
	}
	p, err := j.reserve(name)
	if err != nil {
		return err
	}
	j.settle(p, b, nil)
	return nil
}

// reserve adds name to the list of outputs.
func (j *Job) reserve(name string) (*pendingOutput, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.finished {
		return nil, errJobFinished
	}
	if !store.ValidName(name) {
		return nil, fmt.Errorf("output %q: the name of an output is that of a file, without directories", name)
	}
	for _, o := range j.outputs {
		if o.Name == name {
			return nil, fmt.Errorf("output %s is created twice", name)
		}
	}
	p := &pendingOutput{Output: Output{Name: name}}
	j.outputs = append(j.outputs, p)
	return p, nil
}

// settle completes a reserved output, or removes it from the list on an error.
func (j *Job) settle(p *pendingOutput, b Blob, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		p.Blob, p.committed = b, true
		return
	}
	for i, o := range j.outputs {
		if o == p {
			j.outputs = append(j.outputs[:i], j.outputs[i+1:]...)
			return
		}
	}
}

// Scratch makes an empty directory on the cache's disk, private to this run, that is removed after
// it.
func (j *Job) Scratch() (string, error) {
	dir, release, err := j.build.store.Local().Scratch(j.stage)
	if err != nil {
		return "", err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.scratch = append(j.scratch, release)
	return dir, nil
}

// Progress returns the stage's line on the display.
func (j *Job) Progress() *Task { return j.task }

// Warnf warns the user. The warning is stored with the result and shown again whenever the result
// comes from the cache.
func (j *Job) Warnf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	j.mu.Lock()
	j.warnings = append(j.warnings, text)
	j.mu.Unlock()
	j.build.warn(j.stage, text)
}

// Memo returns the blob that is cached for this stage's name and key, or calls fn to write it. key
// must contain everything that decides the content, such as the digest of a download. Unlike the
// stage's outputs, the blob stays valid when the stage's own key changes. Memo commits the writer;
// fn must neither commit it nor call Memo.
func (j *Job) Memo(ctx context.Context, key string, fn func(w *Writer) error) (Blob, error) {
	return j.Pin(ctx, key, nil, fn)
}

// Pin is Memo for content whose digest is known in advance, such as a locked download. check
// returns an error unless a blob has that content. Pin checks every blob that a cache returns for
// the key, and the blob that fn writes. A cached blob that fails the check is reported, discarded
// and made again.
func (j *Job) Pin(ctx context.Context, key string, check func(Blob) error, fn func(w *Writer) error) (Blob, error) {
	k := newKey()
	k.Add("engine", engineFormat)
	k.Add("memo of stage", j.stage)
	k.Add("memo", key)
	sum, err := k.sum()
	if err != nil {
		return Blob{}, err
	}
	b, err := j.memo(ctx, store.Query{Key: sum, Stage: j.stage, Fields: k.fields}, key, check, fn)
	if err != nil {
		return Blob{}, err
	}
	j.mu.Lock()
	j.memos = append(j.memos, sum)
	j.mu.Unlock()
	return b, nil
}

// memo finds or makes a memo and fetches its blob into the local store, because the stage is about
// to read it. If no cache has the blob, memo makes it.
func (j *Job) memo(ctx context.Context, q store.Query, key string, check func(Blob) error, fn func(w *Writer) error) (Blob, error) {
	b := j.build
	var pinned func(*store.Record) error
	if check != nil {
		pinned = func(r *store.Record) error {
			if len(r.Outputs) != 1 {
				return fmt.Errorf("it has %d files", len(r.Outputs))
			}
			return check(r.Outputs[0].Blob)
		}
	}
	for {
		rec, _, err := b.resolve(ctx, q, pinned, func(string) (*store.Record, error) {
			started := b.clock.Now()
			blob, err := j.writeMemo(fn)
			if err == nil && check != nil {
				err = check(blob)
			}
			if err != nil {
				return nil, err
			}
			now := b.clock.Now()
			return &store.Record{Key: q.Key, Stage: q.Stage, Memo: key, Created: now, Seconds: now.Sub(started).Seconds(),
				Fields: q.Fields, Outputs: []Output{{Name: "memo", Blob: blob}}}, nil
		})
		if err != nil {
			return Blob{}, err
		}
		if len(rec.Outputs) != 1 {
			return Blob{}, fmt.Errorf("record %s is not that of a memo", store.ShortKey(q.Key))
		}
		if from := rec.TakenFrom(); from != "" && check == nil {
			j.mu.Lock()
			j.from, j.signer = from, rec.Signer
			j.mu.Unlock()
		}
		blob := rec.Outputs[0].Blob
		f, err := b.store.Open(blob)
		if err == nil {
			return blob, f.Close()
		}
		if _, first := b.again("memo "+q.Key, err); !first {
			return Blob{}, err
		}
	}
}

// IsDigest returns a check for Pin that accepts only content with that digest.
func IsDigest(want Digest) func(Blob) error {
	return func(b Blob) error {
		if b.Digest != want {
			return fmt.Errorf("it has digest %s, not %s", b.Digest, want)
		}
		return nil
	}
}

func (j *Job) writeMemo(fn func(w *Writer) error) (Blob, error) {
	w, err := j.build.store.Local().Create(nil)
	if err != nil {
		return Blob{}, err
	}
	defer w.Abort()
	if err := fn(w); err != nil {
		return Blob{}, err
	}
	return w.Commit()
}

// finish ends the job, removes what it leaves behind, and returns its outputs. An output that was
// never committed is an error.
func (j *Job) finish() ([]Output, error) {
	j.mu.Lock()
	j.finished = true
	pending := slices.Clone(j.outputs)
	j.mu.Unlock()

	var outputs []Output
	var errs []error
	for _, p := range pending {
		if !p.committed {
			errs = append(errs, fmt.Errorf("output %s was created but never committed", p.Name))
			p.writer.Abort()
		}
		outputs = append(outputs, p.Output)
	}
	for _, remove := range j.scratch {
		errs = append(errs, remove())
	}
	slices.Sort(j.memos)
	j.memos = slices.Compact(j.memos)
	return outputs, errors.Join(errs...)
}
