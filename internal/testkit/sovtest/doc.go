// Package sovtest runs the sov program in tests, and builds with it what several tests use, once.
package sovtest
