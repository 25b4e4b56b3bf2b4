package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/terminal"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// terminalOf returns the terminal that a command's standard error is, or nil.
func terminalOf(c *cobra.Command) *os.File {
	if f, ok := terminal.Raw(c.ErrOrStderr()).(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// working runs fn and meanwhile shows at a terminal what is being done, and for how long. Nothing
// of it stays on the screen. Elsewhere fn's task is nil, which counts nothing.
func working(c *cobra.Command, what string, fn func(ctx context.Context, task *pipeline.Task) error) error {
	f := terminalOf(c)
	if f == nil || os.Getenv("TERM") == "dumb" {
		return fn(c.Context(), nil)
	}
	reporter, err := progress.NewReporter("tty", f, os.Getenv)
	if err != nil {
		return err
	}
	tracker := progress.NewTracker(progress.SystemClock{}, reporter)
	task := tracker.Begin(what)
	tracker.Report(progress.Event{Type: progress.EventStart, Stage: what})
	err = fn(c.Context(), task)
	tracker.Close()
	if closeErr := reporter.Close(); err == nil {
		err = closeErr
	}
	return err
}

// next says at a terminal which command comes next. Who reads JSON, or a log, has no use for it.
func next(c *cobra.Command, asJSON bool, words ...string) {
	if f := terminalOf(c); f != nil && !asJSON {
		fmt.Fprintf(f, "next: %s\n", device.Quote(words))
	}
}

// afterInterrupt says, by command, what Ctrl-C has left: whether the same command goes on from
// there, and whether anything was changed.
var afterInterrupt = map[string]string{
	"sov build":        "what was finished is in the cache: the next build goes on from there",
	"sov lock":         "the lock is as it was; what was fetched is in the cache",
	"sov bundle":       "no bundle was written; what was fetched is in the cache",
	"sov cache export": "no file was written",
	"sov cache import": "entries that had come whole are kept: import again to go on",
	"sov cache push":   "what was sent is kept: push again to go on",
	"sov cache pull":   "entries that had come whole are kept: pull again to go on",
	"sov cache verify": "verify again to look at the rest",
	"sov secrets set":  "no secret was changed",
	"sov sign":         "nothing was signed",
	"sov up":           "what was built and sent is kept: the same command goes on from there",
	"sov push":         "the phone's version is as it was; what was sent is kept: push again to go on",
	"sov start":        "the machine goes on starting: `sov status` says how it is, `sov stop` ends it",
	"sov stop":         "the machine goes on shutting down: `sov status` says how it is",
	"sov restart":      "`sov status` says how the machine is",
	"sov rollback":     "`sov status` says which version is current",
	"sov backup":       "no backup was written; an older one is as it was",
	"sov restore":      "databases take their places together at the end: until then nothing was changed",
	"sov remove":       "remove again to go on",
	"sov repair":       "the repair goes on to its end: `sov status` says how the machine is",
	"sov publish":      "the tag was not set; what was sent is kept: publish again to go on",
	"sov pull":         "no machine was changed; what was fetched is kept: pull again to go on",
	"sov doctor":       "nothing was changed",
}
