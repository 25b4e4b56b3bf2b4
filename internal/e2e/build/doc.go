// Package build tests `sov build`: which stages run, caches, locks, bundles, signatures, and error
// messages.
package build
