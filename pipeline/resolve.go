package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/pipeline/store"
)

const reasonNoCache = "the cache is not asked"

// resolve returns the record that q asks for, and true if the cache has it. Otherwise it calls
// makeRecord and stores the record, while other builds that want the same record wait. A record for
// which check, if not nil, returns an error is discarded.
func (b *build) resolve(ctx context.Context, q store.Query, check func(*store.Record) error, makeRecord func(why string) (*store.Record, error)) (rec *store.Record, hit bool, err error) {
	local := b.store.Local()
	why := reasonNoCache
	if !b.noCache {
		rec, miss, err := local.Get(q)
		if rec != nil && err == nil {
			miss.Reason = b.unusable(q, rec, check)
		}
		if rec != nil && miss.Reason == "" || err != nil {
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
		// Another build, or another computer, may have made it meanwhile.
		rec, _, err := b.store.Get(q)
		reason := ""
		if rec != nil && err == nil {
			reason = b.unusable(q, rec, check)
		}
		if rec != nil && reason == "" || err != nil {
			return b.found(rec, err)
		}
		if reason != "" {
			why = reason
		}
	}
	rec, err = b.makeAndSave(q, func() (*store.Record, error) { return makeRecord(why) })
	return rec, false, err
}

// unusable returns why a record of the cache with the right key cannot be used: it lacks a required
// signature, or check finds that it differs from what the stage pins. Such a record is removed, so
// that no later build uses it. The result is "" for a good record.
func (b *build) unusable(q store.Query, rec *store.Record, check func(*store.Record) error) string {
	reason := ""
	proven := check != nil && rec.Memo != "" // the check proves more than a signature
	if err := b.store.Believed(rec); err != nil && !proven {
		reason = err.Error()
	} else if check != nil {
		reason = b.compare(q, rec, check)
	}
	if reason == "" {
		return ""
	}
	if err := b.store.Local().Forget(q.Key); err != nil {
		b.warn(q.Stage, err.Error())
	}
	return reason
}

// compare returns how a record differs from what its stage pins, or "".
func (b *build) compare(q store.Query, rec *store.Record, check func(*store.Record) error) string {
	err := check(rec)
	if err == nil {
		return ""
	}
	where := "the cache"
	if from := rec.TakenFrom(); from != "" {
		where = "remote cache " + from
	}
	var lost *store.BlobError
	if errors.As(err, &lost) {
		return fmt.Sprintf("the result in %s cannot be compared with the pinned digest: %v", where, err)
	}
	reason := fmt.Sprintf("the result in %s does not match the pinned digest: %v", where, err)
	b.warn(q.Stage, reason+"; it is discarded and made again")
	return reason
}

// found records the use of a record.
func (b *build) found(rec *store.Record, err error) (*store.Record, bool, error) {
	if err == nil {
		err = b.store.Touch(rec, b.clock.Now())
	}
	return rec, err == nil, err
}

// makeAndSave stores what makeRecord returns, and warns if it differs from the stored record of the
// same key.
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
