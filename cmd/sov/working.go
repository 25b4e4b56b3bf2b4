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

// terminalOf returns the terminal of a command's standard error, or nil.
func terminalOf(c *cobra.Command) *os.File {
	if f, ok := terminal.Raw(c.ErrOrStderr()).(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// working runs fn. At a terminal it shows a description and the elapsed time meanwhile, and erases
// them afterwards. Elsewhere fn's task is nil, which is valid.
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

// next prints at a terminal which command comes next. With JSON or without a terminal it prints
// nothing.
func next(c *cobra.Command, asJSON bool, words ...string) {
	if f := terminalOf(c); f != nil && !asJSON {
		fmt.Fprintf(f, "next: %s\n", device.Quote(words))
	}
}

// afterInterrupt maps a command to the state that it leaves after Ctrl-C: whether the same command
// continues from there, and whether anything was changed.
var afterInterrupt = map[string]string{
	"sov build":        "finished stages are in the cache: the next build continues from there",
	"sov lock":         "the lock was not changed; downloads are in the cache",
	"sov bundle":       "no bundle was written; downloads are in the cache",
	"sov cache export": "no file was written",
	"sov cache import": "complete entries are kept: import again to continue",
	"sov cache push":   "uploaded files are kept: push again to resume",
	"sov cache pull":   "complete entries are kept: pull again to resume",
	"sov cache verify": "verify again to check the rest",
	"sov secrets set":  "no secret was changed",
	"sov sign":         "nothing was signed",
	"sov up":           "results are kept: run the same command to continue",
	"sov push":         "the phone's version was not changed; sent data is kept: push again to resume",
	"sov start":        "the machine keeps starting: `sov status` shows its state, `sov stop` stops it",
	"sov stop":         "the machine keeps shutting down: `sov status` shows its state",
	"sov restart":      "`sov status` shows the machine's state",
	"sov rollback":     "`sov status` shows which version is current",
	"sov backup":       "no backup was written; an older one was not changed",
	"sov restore":      "databases are replaced together at the end: before that nothing was changed",
	"sov remove":       "run it again to continue",
	"sov repair":       "the repair continues: `sov status` shows the machine's state",
	"sov publish":      "the tag was not set; uploaded files are kept: publish again to resume",
	"sov pull":         "no machine was changed; downloads are kept: pull again to resume",
	"sov doctor":       "nothing was changed",
}
