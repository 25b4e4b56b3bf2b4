// Package canary detects leaked secrets: it searches files and processes for a text that every
// secret of a test contains.
package canary
