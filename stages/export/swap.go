package export

import (
	"errors"
	"os"
)

// swapByRename swaps two directories. It restores b if the rename of a fails.
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
