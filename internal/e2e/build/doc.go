// Package build tests `sov build`: stages, caches, locks, bundles, signatures and error messages.
package build
