// Package artifact has the rule for names of machines and the names of an artifact's files. The
// packages below it define the formats of the files.
package artifact
