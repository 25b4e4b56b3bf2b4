// Package sovtest runs the sov program in tests, and builds the artifacts that several tests share
// once.
package sovtest
