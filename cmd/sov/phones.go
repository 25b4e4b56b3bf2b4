package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sovereign-sql/sov/internal/host/device"
)

// phoneFlags choose the phones that a command is for.
type phoneFlags struct {
	devices []string
	all     bool
	asJSON  bool
}

func (f *phoneFlags) add(c *cobra.Command) {
	f.addDevice(c)
	c.Flags().BoolVar(&f.all, "all", false, "every phone that adb sees")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON: an object, or with --all or several --device an array of one for each phone")
}

// addDevice adds --device alone.
func (f *phoneFlags) addDevice(c *cobra.Command) {
	c.Flags().StringArrayVarP(&f.devices, "device", "s", nil, "phone: an adb serial, ssh:user@host or local:FOLDER; may be repeated")
	err := c.RegisterFlagCompletionFunc("device", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		devices, err := device.Devices(c.Context(), "adb")
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, d := range devices {
			names = append(names, d.Serial+"\t"+d.Model)
		}
		return append(names, "ssh:\ta host, by ssh", "local:\ta folder of this computer"), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	if err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}

// several reports whether the user means any number of phones, whatever is attached: then answers name their phone.
func (f *phoneFlags) several() bool { return f.all || len(f.devices) > 1 }

// choose returns the phones that are meant. Where several are and nobody has said which, a person is asked.
func (f *phoneFlags) choose(c *cobra.Command) ([]device.Phone, error) {
	choice := device.Choice{Devices: f.devices, All: f.all, Serial: os.Getenv("ANDROID_SERIAL")}
	if in, ok := c.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		choice.Ask = func(devices []device.Device) (device.Device, error) { return askDevice(c, in, devices) }
	}
	phones, err := device.Choose(c.Context(), choice)
	var unclear *device.ChoiceError
	if errors.As(err, &unclear) {
		return nil, &usageError{err}
	}
	return phones, err
}

// askDevice lets a person at the terminal choose a phone by its number.
func askDevice(c *cobra.Command, in io.Reader, devices []device.Device) (device.Device, error) {
	say := c.ErrOrStderr()
	fmt.Fprintln(say, "Several phones are attached:")
	for i, d := range devices {
		fmt.Fprintf(say, "  %d  %s\n", i+1, d)
	}
	lines := bufio.NewReader(in)
	for {
		fmt.Fprintf(say, "Which one? [1-%d] ", len(devices))
		line, err := unlessDone(c.Context(), func() ([]byte, error) { return lines.ReadBytes('\n') })
		if n, bad := strconv.Atoi(strings.TrimSpace(string(line))); bad == nil && n >= 1 && n <= len(devices) {
			return devices[n-1], nil
		}
		if err != nil {
			fmt.Fprintln(say)
			return device.Device{}, &usageError{errors.New("no phone was chosen: name it with --device")}
		}
	}
}

// A site is one of a command's phones, and where to say what happens there.
type site struct {
	device.Phone
	out, errOut io.Writer // standard output, and progress and complaints
	asJSON      bool
}

// each does something on every phone that is meant, on all at once. Where there are several, each line says whose it is,
// one phone's failure does not keep the others from theirs, and the JSON is an array.
func (f *phoneFlags) each(c *cobra.Command, do func(ctx context.Context, s *site) error) error {
	phones, err := f.choose(c)
	if err != nil {
		return err
	}
	if !f.several() {
		return f.onOne(c, phones[0], do)
	}
	answers := make([]answer, len(phones))
	var writing sync.Mutex
	var wait sync.WaitGroup
	for i, p := range phones {
		wait.Go(func() {
			var out bytes.Buffer
			errOut := &lineWriter{to: c.ErrOrStderr(), prefix: p.Name() + ": ", mu: &writing}
			s := &site{Phone: p, out: &out, errOut: errOut, asJSON: f.asJSON}
			lines := &lineWriter{to: c.OutOrStdout(), prefix: p.Name() + ": ", mu: &writing}
			if !f.asJSON {
				s.out = lines
			}
			err := do(c.Context(), s)
			errOut.flush()
			lines.flush()
			answers[i] = newAnswer(p.Name(), out.Bytes(), err)
		})
	}
	wait.Wait()
	if f.asJSON {
		if err := printJSON(c.OutOrStdout(), answers); err != nil {
			return err
		}
	}
	return sum(answers)
}

func (f *phoneFlags) onOne(c *cobra.Command, p device.Phone, do func(ctx context.Context, s *site) error) error {
	out, errOut := &lineWriter{to: c.OutOrStdout()}, &lineWriter{to: c.ErrOrStderr()}
	s := &site{Phone: p, out: out, errOut: errOut, asJSON: f.asJSON}
	if f.asJSON {
		s.out = c.OutOrStdout()
	}
	err := do(c.Context(), s)
	out.flush()
	errOut.flush()
	return err
}

// An answer is one phone's among several, as --json prints it.
type answer struct {
	Device string          `json:"device"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	Found  bool            `json:"found,omitempty"` // a check found something
	err    error
}

func newAnswer(device string, out []byte, err error) answer {
	a := answer{Device: device, err: err}
	if json.Valid(out) {
		a.Result = out
	}
	if err != nil {
		a.Error = err.Error()
		a.Found = errors.As(err, new(*foundError))
	}
	return a
}

// sum is the end of a command on several phones: a failure is worse than something found.
func sum(answers []answer) error {
	var failed []error
	found := 0
	for _, a := range answers {
		switch {
		case a.Found:
			found++
		case a.err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", a.Device, a.err))
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	if found > 0 {
		return &foundError{fmt.Sprintf("something was found on %d of %d phones", found, len(answers))}
	}
	return nil
}

// A lineWriter passes on whole lines, each behind a prefix, and nothing that a terminal would obey: they come from a phone.
type lineWriter struct {
	to     io.Writer
	prefix string
	mu     *sync.Mutex // of all who write to the same place; nil: this one alone does

	holding sync.Mutex
	held    []byte
}

// maxHeldLine is where a line is broken, in bytes.
const maxHeldLine = 64 << 10

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.holding.Lock()
	defer w.holding.Unlock()
	w.held = append(w.held, p...)
	for {
		n := bytes.IndexByte(w.held, '\n')
		if n < 0 && len(w.held) < maxHeldLine {
			return len(p), nil
		}
		line := w.held
		rest := []byte(nil)
		if n >= 0 {
			line, rest = w.held[:n], w.held[n+1:]
		}
		if err := w.line(line); err != nil {
			return 0, err
		}
		w.held = append([]byte(nil), rest...)
	}
}

func (w *lineWriter) flush() {
	w.holding.Lock()
	defer w.holding.Unlock()
	if len(w.held) > 0 {
		w.line(w.held)
		w.held = nil
	}
}

func (w *lineWriter) line(text []byte) error {
	if w.mu != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
	}
	_, err := fmt.Fprintf(w.to, "%s%s\n", w.prefix, harmless(string(text)))
	return err
}

// harmless is a line without what steers a terminal: colours of a console's log are left out, the rest is shown as Go
// writes it.
func harmless(line string) string {
	line = strings.ToValidUTF8(strings.TrimRight(line, "\r"), "\ufffd") // some terminals obey bytes from 0x80 on
	if !strings.ContainsFunc(line, unprintable) {
		return line
	}
	var b strings.Builder
	for _, r := range ansi.ReplaceAllString(line, "") {
		if unprintable(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != '\t' && !strconv.IsPrint(r) }

// ansi are the control sequences of ECMA-48, 5.4, which colours are.
var ansi = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]")
