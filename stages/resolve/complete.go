package resolve

import (
	"context"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/pipeline/progress"
	"github.com/sovereign-sql/sov/stages/output"
	"github.com/sovereign-sql/sov/stages/packages"
)

// Complete adds the digests of the packages that a build has made to an entry and, if there is one,
// to the lock file, and reports whether that changed the file. If it cannot write the lock file, it
// only warns: the build does not depend on it.
func (r *Resolver) Complete(entry *lock.Entry, made output.Source) (written bool) {
	list, more := packages.Digests(entry.Packages, made)
	if !more {
		return false
	}
	entry.Packages = list
	if r.LockPath == "" {
		return false
	}
	written, err := lock.Complete(r.LockPath, *entry)
	if err != nil {
		r.warn("the digests of packages are not in the lock: " + err.Error())
	}
	return written
}

// digests fetches the packages of an entry and adds their digests to it. If no repository has a
// locked package any more, the lock is written without digests, with a warning.
func (r *Resolver) digests(ctx context.Context, entry *lock.Entry) error {
	if !lacksDigests(entry) {
		return nil
	}
	made, err := r.Run(ctx, r.Base(entry), r.Packages(entry))
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		r.warn("the digests of packages are not in the lock; a build adds them: " + err.Error())
		return nil
	}
	entry.Packages, _ = packages.Digests(entry.Packages, made)
	return nil
}

func lacksDigests(entry *lock.Entry) bool {
	for _, p := range entry.Packages {
		if p.SHA256 == "" {
			return true
		}
	}
	return false
}

func (r *Resolver) warn(text string) {
	r.Reporter.Report(progress.Event{Time: time.Now(), Type: progress.EventWarning, Text: text})
}
