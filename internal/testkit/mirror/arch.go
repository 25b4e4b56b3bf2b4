package mirror

import "fmt"

// An arch is one architecture under each of its names.
type arch struct {
	goarch string // in options and image platforms
	alpine string
	debian string
}

var arches = []arch{
	{goarch: "arm64", alpine: "aarch64", debian: "arm64"},
	{goarch: "amd64", alpine: "x86_64", debian: "amd64"},
}

// archesByName returns the named ones, all where none is named.
func archesByName(names []string) ([]arch, error) {
	if len(names) == 0 {
		return arches, nil
	}
	var found []arch
next:
	for _, name := range names {
		for _, a := range arches {
			if a.goarch == name {
				found = append(found, a)
				continue next
			}
		}
		return nil, fmt.Errorf("architecture %q is not served (arm64 and amd64 are)", name)
	}
	return found, nil
}
