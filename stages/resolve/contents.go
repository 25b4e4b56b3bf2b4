package resolve

import (
	"context"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/fetch"
	"github.com/sovereign-sql/sov/internal/image/apk"
)

// Contents is what a lock pins for a recipe.
type Contents struct {
	Entry    *lock.Entry
	Packages []*apk.Package // including those of the base image
	Client   *fetch.Client  // offline if the options are
}

// ContentsOf reads what the lock pins. It fetches packages and the base image if the cache does not
// have them.
func ContentsOf(ctx context.Context, o Options) (*Contents, error) {
	c := &Contents{}
	err := withLock(ctx, o, func(r *Resolver, entry *lock.Entry) (err error) {
		c.Entry, c.Client = entry, r.Client
		c.Packages, err = r.installed(ctx, entry)
		return err
	})
	return c, err
}
