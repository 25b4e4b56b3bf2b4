package apk

import "time"

// Newest returns the build time of the newest package in an index, or the zero Time if the index
// has no build times. It orders the versions of a repository's index: Alpine's tools do not write
// another time into an index.
func (x *Index) Newest() time.Time {
	var newest time.Time
	for _, p := range x.Packages {
		if p.BuildTime.After(newest) {
			newest = p.BuildTime
		}
	}
	return newest
}
