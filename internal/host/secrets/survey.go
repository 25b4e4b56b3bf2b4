package secrets

import (
	"slices"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// A Secret is stored for a machine, or used by its recipe, or both.
type Secret struct {
	Name      string     `json:"name"`
	Set       bool       `json:"set"`
	Encrypted bool       `json:"encrypted"`
	Changed   *time.Time `json:"changed"` // null if it is not set
	Used      *bool      `json:"used"`    // by the recipe; null if that is not known
}

// Survey lists the secrets of a machine: those that its recipe uses, in that order, and then the
// other stored ones. known is that the recipe, and so uses, is known.
func (s *Store) Survey(vm string, uses []string, known bool) ([]Secret, error) {
	kept, err := s.List(vm)
	if err != nil {
		return nil, err
	}
	list := []Secret{}
	for _, name := range uses {
		list = append(list, Secret{Name: name, Used: new(true)})
	}
	for _, info := range kept {
		i := slices.IndexFunc(list, func(r Secret) bool { return r.Name == info.Name })
		if i < 0 {
			i = len(list)
			list = append(list, Secret{Name: info.Name})
			if known {
				list[i].Used = new(recipe.StaysHere(info.Name))
			}
		}
		list[i].Set, list[i].Encrypted, list[i].Changed = true, info.Encrypted, new(info.Changed.UTC())
	}
	return list, nil
}

// State describes how the secret is stored, and whether the recipe uses it.
func (r Secret) State() string {
	var parts []string
	switch {
	case !r.Set:
		parts = append(parts, "not set")
	case r.Encrypted:
		parts = append(parts, "encrypted")
	default:
		parts = append(parts, "plain")
	}
	if r.Used != nil && !*r.Used {
		parts = append(parts, "not used by the recipe")
	}
	return strings.Join(parts, ", ")
}
