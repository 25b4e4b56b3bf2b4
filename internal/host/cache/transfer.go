package cache

import (
	"context"

	"github.com/sovereign-sql/sov/internal/host/credentials"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/remote"
	"github.com/sovereign-sql/sov/pipeline/store"
)

// A Report is the result of a transfer.
type Report struct {
	Entries int      `json:"entries"`
	Files   int      `json:"files"`
	Bytes   int64    `json:"bytes"`
	Away    int      `json:"away,omitempty"` // files that the source lacks
	Refused []string `json:"refused,omitempty"`
}

// A Transfer moves entries between a store and something else: it calls remote.Push or remote.Pull.
type Transfer func(ctx context.Context, s *pipeline.Store, o remote.TransferOptions) (remote.TransferResult, error)

// Run runs a transfer, whose progress is reported under a name.
func Run(ctx context.Context, s *pipeline.Store, reporter progress.Reporter, name string, run Transfer) (Report, error) {
	var result remote.TransferResult
	engine := &pipeline.Engine{Store: s, Progress: reporter}
	err := engine.Do(ctx, name, func(ctx context.Context, t *pipeline.Task) error {
		var done, total int64
		var err error
		result, err = run(ctx, s, remote.TransferOptions{Progress: func(d, n int64) {
			t.Grow(n - total)
			t.Add(d - done)
			done, total = d, n
		}})
		return err
	})
	return Report{result.Entries, result.Blobs, result.Bytes, result.Away, result.Refused}, err
}

// Export writes a store into an archive, with last only what the last build of each recipe used.
// The archive appears when it is complete.
func Export(archive *remote.Archive, last bool, believe func(*store.Record) error) Transfer {
	return func(ctx context.Context, s *pipeline.Store, o remote.TransferOptions) (remote.TransferResult, error) {
		o.Last, o.Believe = last, believe
		result, err := remote.Push(ctx, s, archive, o)
		if err == nil {
			err = archive.Commit()
		}
		return result, err
	}
}

// Push sends a store to a remote cache, with last only what the last build of each recipe used.
func Push(to remote.Cache, last bool, believe func(*store.Record) error) Transfer {
	return func(ctx context.Context, s *pipeline.Store, o remote.TransferOptions) (remote.TransferResult, error) {
		o.Last, o.Believe = last, believe
		return remote.Push(ctx, s, to, o)
	}
}

// Pull copies everything from a remote cache. believe is that of remote.Options.
func Pull(from remote.Cache, believe func(*store.Record) error) Transfer {
	return func(ctx context.Context, s *pipeline.Store, o remote.TransferOptions) (remote.TransferResult, error) {
		o.Believe = believe
		return remote.Pull(ctx, s, from, o)
	}
}

// OpenRemote opens the remote cache that a text describes, which parse reads: remote.ParseSource or
// remote.ParseTarget. A registry gets the credentials that the environment has. trust verifies and
// signs records.
func OpenRemote(text string, parse func(string) (remote.Spec, error), trust remote.Trust, getenv func(string) string) (remote.Cache, error) {
	spec, err := parse(text)
	if err != nil {
		return nil, err
	}
	opener := remote.Opener{Keychain: credentials.Keychain(getenv), Trust: trust}
	return opener.Open(spec)
}
