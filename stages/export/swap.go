package export

import (
	"errors"
	"os"
)

// swapByRename swaps two directories. It puts b back if a cannot take its
// place.
func swapByRename(a, b string) error {
	aside := a + ".old"
	if err := os.Rename(b, aside); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return errors.Join(err, os.Rename(aside, b))
	}
	return os.Rename(aside, a)
}
