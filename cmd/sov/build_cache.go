package main

import (
	"fmt"
	"slices"

	"github.com/sovereign-sql/sov/internal/remotecache"
	"github.com/sovereign-sql/sov/pipeline"
)

// remotes opens the remote caches that --cache-from and --cache-to name.
func remotes(f buildFlags) (pipeline.Remotes, error) {
	var from, to []remotecache.Spec
	for _, text := range f.cacheFrom {
		spec, err := remotecache.ParseSource(text)
		if err != nil {
			return pipeline.Remotes{}, fmt.Errorf("--cache-from: %w", err)
		}
		from = append(from, spec)
	}
	for _, text := range f.cacheTo {
		spec, err := remotecache.ParseTarget(text)
		if err != nil {
			return pipeline.Remotes{}, fmt.Errorf("--cache-to: %w", err)
		}
		to = append(to, spec)
	}
	for _, spec := range slices.Concat(from, to) {
		if f.Offline && !spec.Local() {
			return pipeline.Remotes{}, fmt.Errorf("--offline: the cache in %s is beyond the network", spec.Repository)
		}
	}
	return remotecache.Remotes(from, to)
}
