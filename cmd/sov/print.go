package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/finding"
	"github.com/sovereign-sql/sov/internal/host/terminal"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// A printer writes text and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// findings prints a table of findings.
func (p *printer) findings(findings []finding.Finding) {
	if p.err == nil {
		p.err = finding.Print(p.w, findings)
	}
}

// printResult prints a command's result to w as JSON or by calling text.
func printResult(w io.Writer, asJSON bool, value any, text func(p *printer)) error {
	if asJSON {
		return printJSON(w, value)
	}
	p := &printer{w: w}
	text(p)
	return p.err
}

// printJSON writes a value as indented JSON and a newline.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// jsonFlag adds --json.
func jsonFlag(c *cobra.Command, asJSON *bool) {
	c.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

// progressFlag adds --progress.
func progressFlag(c *cobra.Command, kind *string) {
	c.Flags().StringVar(kind, "progress", "auto", "how to show progress: auto, tty, plain or json")
	complete(c, "progress", "auto", "tty", "plain", "json")
}

// withReporter runs fn with the reporter that --progress names.
func withReporter(c *cobra.Command, kind string, fn func(progress.Reporter) error) error {
	reporter, err := progress.NewReporter(kind, terminal.Raw(c.ErrOrStderr()), os.Getenv) // the reporter removes control sequences
	if err != nil {
		return &usageError{err}
	}
	err = fn(reporter)
	if closeErr := reporter.Close(); err == nil {
		err = closeErr
	}
	return err
}

// shown returns a name for printing, quoted if it has control characters.
func shown(name string) string {
	if quoted := strconv.Quote(name); strings.ContainsRune(quoted, '\\') {
		return quoted
	}
	return name
}
