// Package build tests how the sov program builds: what runs and what does not, caches, locks,
// bundles, signatures, and what it says when something is wrong.
package build
