package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sovereign-sql/sov/pipeline/progress"
)

// parallelBlobs is how many blobs of one record are transferred at once. Most
// are small, and the way to a registry is long.
const parallelBlobs = 4

// deliver brings what the build is to deliver of a result from the cache.
func (r *stageRun) deliver(ctx context.Context, a *action) error {
	away, err := r.away(a)
	if err != nil || len(away) == 0 {
		return err
	}
	tr := r.build.tracker
	task := tr.Begin(r.name)
	tr.Report(progress.Event{Type: progress.EventStart, Stage: r.name, Key: a.Key, Reason: "its files are in " + a.Remote})
	if err := r.bring(ctx, task, away); err != nil {
		ended(ctx, tr, task, a.Key, 0, err)
		return err
	}
	tr.End(task)
	return nil
}

// away returns the blobs of a result that the build is to deliver and that
// are not here.
func (r *stageRun) away(a *action) ([]Blob, error) {
	if !slices.Contains(r.build.delivered, r.name) {
		return nil, nil
	}
	var away []Blob
	for _, o := range a.Outputs {
		err := r.build.store.check(o.Blob)
		var bad *BlobError
		if err != nil && !errors.As(err, &bad) {
			return nil, err
		}
		if err != nil {
			away = append(away, o.Blob)
		}
	}
	return away, nil
}

// bring fetches blobs.
func (r *stageRun) bring(ctx context.Context, task *Task, blobs []Blob) error {
	task.Step("fetch")
	for _, blob := range blobs {
		task.Grow(blob.Size)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelBlobs)
	for _, blob := range blobs {
		group.Go(func() error {
			var done atomic.Int64
			err := r.build.store.ensure(blob, func(n int64) { done.Add(n); task.Add(n) })
			task.Add(blob.Size - done.Load()) // where another process has brought it
			return errors.Join(err, ctx.Err())
		})
	}
	return group.Wait()
}
