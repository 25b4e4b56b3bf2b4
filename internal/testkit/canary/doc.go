// Package canary finds out where a secret has got to: a text that stands in every secret of a test
// is searched for in files and processes.
package canary
