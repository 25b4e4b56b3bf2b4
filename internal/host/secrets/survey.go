package secrets

import (
	"strings"
	"time"
)

// Secret is one secret as `sov secrets list --json` prints it: one that is kept, or one that the recipe uses.
type Secret struct {
	Name      string     `json:"name"`
	Set       bool       `json:"set"`
	Encrypted bool       `json:"encrypted"`
	Changed   *time.Time `json:"changed"` // null where it is not set
	Used      *bool      `json:"used"`    // by the recipe; null where that is not known
}

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
