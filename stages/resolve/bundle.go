package resolve

import (
	"bytes"
	"errors"
	"io/fs"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
)

// openBundle opens the offline bundle. If the bundle was made from this recipe, it also applies the
// flags that the bundle was made with: an image, repositories or a kernel source in place of the
// recipe's.
func (r *Resolver) openBundle() (err error) {
	if r.Bundle == "" {
		return nil
	}
	if r.OfflineBundle, err = offline.OpenSigned(r.Bundle, r.BundleKey); err != nil {
		return err
	}
	entry, err := r.bundleEntry()
	if err != nil || entry == nil {
		return err
	}
	text, err := r.OfflineBundle.Bytes(offline.Recipe, r.Recipe.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(text, r.RecipeText) {
		return nil
	}
	if r.Image == "" {
		r.Image = entry.Inputs.Image
	}
	if len(r.Repositories) == 0 {
		r.Repositories = entry.Inputs.Repositories
	}
	if r.KernelSource == "" {
		r.KernelSource = entry.Inputs.Kernel
	}
	return nil
}

// bundleEntry returns the bundle's lock entry for the recipe, or nil if it does
// not have one.
func (r *Resolver) bundleEntry() (*lock.Entry, error) {
	text, err := r.OfflineBundle.Bytes(offline.Lock, offline.LockName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := lock.Parse(r.Bundle+": "+offline.LockName, text)
	if err != nil {
		return nil, err
	}
	entry, _ := file.Find(r.Recipe.Name, r.Arch)
	return entry, nil
}
