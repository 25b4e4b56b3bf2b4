package mirror

import (
	"github.com/sovereign-sql/sov/internal/arch"
)

// archesByName returns the architectures with these names, or all if names is empty.
func archesByName(names []string) ([]arch.Arch, error) {
	if len(names) == 0 {
		return arch.All(), nil
	}
	var found []arch.Arch
	for _, name := range names {
		a, err := arch.Get(name)
		if err != nil {
			return nil, err
		}
		found = append(found, a)
	}
	return found, nil
}
