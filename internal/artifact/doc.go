// Package artifact is what every side knows of a machine without opening its files: the rule for
// its name, and the names of the files that a build hands out. What stands in the files is the
// packages' below.
package artifact
