package pipeline

import (
	"context"
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

const reasonNoCache = "the cache is not asked"

// resolve returns the record that q asks for and true if the cache has it. Otherwise it has
// makeRecord make it, while other builds that want the same wait, and stores it.
func (b *build) resolve(ctx context.Context, q store.Query, makeRecord func(why string) (*store.Record, error)) (rec *store.Record, hit bool, err error) {
	local := b.store.Local()
	why := reasonNoCache
	if !b.noCache {
		rec, miss, err := local.Get(q)
		if rec != nil || err != nil {
			return b.found(rec, err)
		}
		why = miss.Reason
		if miss.Damage {
			b.warn(q.Stage, why+"; making it again")
		}
	}
	release, err := local.Lock(ctx, q.Key, func(holder string) {
		b.tracker.Report(progress.Event{Type: progress.EventWait, Stage: q.Stage, Text: "waiting for " + holder + ", which is making the same"})
	})
	if err != nil {
		return nil, false, fmt.Errorf("lock its place in the cache: %w", err)
	}
	defer release()
	if !b.noCache {
		// Another build may have made it meanwhile, or another computer.
		if rec, _, err := b.store.Get(q); rec != nil || err != nil {
			return b.found(rec, err)
		}
	}
	rec, err = b.makeAndSave(q, func() (*store.Record, error) { return makeRecord(why) })
	return rec, false, err
}

// found notes the use of a record.
func (b *build) found(rec *store.Record, err error) (*store.Record, bool, error) {
	if err == nil {
		err = b.store.Touch(rec, b.clock.Now())
	}
	return rec, err == nil, err
}

// makeAndSave stores what makeRecord returns, and warns if it is not what the same key gave before.
func (b *build) makeAndSave(q store.Query, makeRecord func() (*store.Record, error)) (*store.Record, error) {
	before, _, err := b.store.Local().Load(q.Key)
	if err != nil {
		return nil, err
	}
	rec, err := makeRecord()
	if err != nil {
		return nil, err
	}
	if err := b.store.Save(rec); err != nil {
		return nil, err
	}
	if before != nil && !slices.Equal(before.Outputs, rec.Outputs) {
		b.warn(q.Stage, "the same inputs gave another result than before: it is not reproducible")
	}
	return rec, nil
}
