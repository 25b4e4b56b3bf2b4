package build

import (
	"context"
	"slices"

	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/stages/resolve"
)

// A Why says why a package is in the lock: the chains of dependencies from the recipe or the base
// image to the package.
type Why struct {
	Name    string      `json:"name"`
	Version string      `json:"version"`
	Chains  [][]WhyLink `json:"chains"` // empty: the base image has it and no package needs it
}

// A WhyLink is a package of a chain, and what requires it.
type WhyLink struct {
	Package string `json:"package"`
	Version string `json:"version"`
	Reason  string `json:"reason"` // what requires it
}

// WhyPackage says why the lock of a recipe has a package.
func WhyPackage(ctx context.Context, o resolve.Options, name string) (Why, error) {
	reason, err := resolve.Why(ctx, o, name)
	if err != nil {
		return Why{}, err
	}
	return newWhy(reason), nil
}

// reasonText describes what requires a link's package.
func reasonText(l apk.Link, i int, chain []apk.Link, recipe []string) string {
	switch {
	case i == 0 && slices.Contains(recipe, l.Reason.String()):
		return "the recipe asks for " + l.Reason.String()
	case i == 0:
		return "the base image asks for " + l.Reason.String()
	case l.If:
		return "comes along with " + l.Reason.String()
	}
	return chain[i-1].Package.Name + " needs " + l.Reason.String()
}

func newWhy(r *resolve.Reason) Why {
	report := Why{Name: r.Package.Name, Version: r.Package.Version, Chains: [][]WhyLink{}}
	for _, chain := range r.Chains {
		var links []WhyLink
		for i, l := range chain {
			links = append(links, WhyLink{l.Package.Name, l.Package.Version, reasonText(l, i, chain, r.Recipe)})
		}
		report.Chains = append(report.Chains, links)
	}
	return report
}
