package apk

import "time"

// Newest returns when the newest package of an index was built, or the zero Time if it does not
// say. Of two indexes of a repository the one with the older packages is usually the older one:
// Alpine's tools write no other time into an index.
func (x *Index) Newest() time.Time {
	var newest time.Time
	for _, p := range x.Packages {
		if p.BuildTime.After(newest) {
			newest = p.BuildTime
		}
	}
	return newest
}
