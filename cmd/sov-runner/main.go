// Command sov-runner runs virtual machines on the phone where it is installed. See package daemon.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// release is the version of sov that this program was released with;
// internal/host/embedded/generate sets it. It is empty in every other build, so that the program
// changes only with its sources.
var release string

// version identifies this build: it returns a prefix of the SHA-256 digest of the program's file,
// or "unknown".
var version = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		return "unknown"
	}
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)[:8])
})

// Exit statuses.
const (
	statusFailed = 1
	statusUsage  = 2
	statusFound  = 3 // a check found a problem
)

// A usageError is an invalid command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// errFound is the error of a check that printed its report and found a problem.
var errFound = errors.New("found something")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := newRoot().ExecuteContext(ctx)
	stop()
	os.Exit(status(err))
}

// status prints an error and returns its exit status.
func status(err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, errFound) {
		return statusFound
	}
	fmt.Fprintln(os.Stderr, "sov-runner:", err)
	if errors.As(err, new(*usageError)) || strings.HasPrefix(err.Error(), "unknown command") {
		return statusUsage
	}
	return statusFailed
}

// options are the flags of every command.
type options struct {
	root string
	json bool
}

func (o *options) layout() phonepath.Root { return phonepath.Root(o.root) }

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "sov-runner",
		Short: "Run a virtual machine on this phone",
		Long: `sov-runner runs machines that are installed on this phone: it sets up their network (TAP, rules,
NAT), starts crosvm, maintains both, and diagnoses problems.

It records each change of the phone before making it. up may therefore run any number of times, and
down restores the phone, even if a process was killed in between.`,
		Example: `  sov-runner up sql              start it and wait until SQL is answered
  sov-runner status sql --json   print its state
  sov-runner diagnose sql --fix  find the broken layer, and repair the phone's side
  sov-runner logs sql -f         the guest's console
  sov-runner down sql            shut it down cleanly`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVar(&o.root, "root", string(phonepath.Default), "folder that holds the machines")
	root.PersistentFlags().BoolVar(&o.json, "json", false, "print the result as JSON")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w (see `%s --help`)", err, c.CommandPath())}
	})
	root.AddCommand(newUp(o), newDown(o), newRestart(o), newDaemon(o), newList(o), newReceive(o), newInstall(o), newSlots(o), newRollback(o), newStatus(o), newDiagnose(o), newTest(o), newRemove(o), newRepair(o), newTrust(o), newBackup(o), newRestore(o), newUpgrade(o), newConnect(o), newSession(o), newLogs(o), newVersion(o))
	return root
}

// oneName requires exactly one argument, the name of a machine.
func oneName(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &usageError{fmt.Errorf("it takes the name of one machine, such as sql (see `%s --help`)", c.CommandPath())}
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
