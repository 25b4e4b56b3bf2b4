package crosvmcli

import (
	"fmt"
	"slices"
	"strings"
)

// Exit statuses for rejected arguments.
const (
	StatusFailed           = 1
	StatusInvalidArguments = 35
)

// A Refusal is the error for a command line that crosvm rejects, with the exit status.
type Refusal struct {
	Status int
	Text   string
}

func (e *Refusal) Error() string { return e.Text }

// A Command is a parsed command line.
type Command struct {
	Extended bool   // --extended-status
	Log      string // --log-level; empty: info
	Verb     string // "run", "stop", …
	Help     bool   // of the verb, or of crosvm if there is no verb
	Args     []string
	Machine  *Machine // of "run"
}

// verbs maps the releases in which verbs changed to their verbs.
var verbs = map[Release][]string{
	Android13: {"balloon", "balloon_stats", "battery", "disk", "make_rt", "powerbtn", "resume", "run", "stop", "suspend", "usb", "version", "vfio"},
	Android14: {"balloon", "balloon_stats", "battery", "disk", "gpe", "make_rt", "powerbtn", "resume", "run", "sleepbtn", "snapshot", "stop", "suspend", "usb", "version", "vfio"},
}

func (r Release) verbs() []string {
	if r == Android13 {
		return verbs[r]
	}
	return verbs[Android14]
}

// An Exists reports whether a file exists. Android 13 checks files while it parses its arguments.
type Exists func(path string) bool

// Parse parses the arguments after the program's name. A rejected command line returns a *Refusal.
func (t Table) Parse(r Release, words []string, exists Exists) (*Command, error) {
	if r == Android13 {
		return t.parse13(words, exists)
	}
	words = cut(words)
	c := &Command{Log: "info"}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch {
		case word == "--help":
			c.Help = true
			return c, nil
		case word == "--extended-status":
			c.Extended = true
		case word == "--no-syslog":
		case word == "--log-level" || word == "--syslog-tag":
			if len(words) == 0 {
				return nil, invalid("No value provided for option '%s'.", word)
			}
			if word == "--log-level" {
				c.Log = words[0]
			}
			words = words[1:]
		case strings.HasPrefix(word, "-") || !slices.Contains(r.verbs(), word):
			return nil, invalid("Unrecognized argument: %s", word)
		default:
			c.Verb, c.Args = word, words
			return c, t.parseVerb(r, c, exists)
		}
	}
	return nil, invalid("One of the following subcommands must be present: %s", strings.Join(r.verbs(), " "))
}

// cut splits every argument that begins with a dash and contains an equals sign, including values
// (prepare_argh_args).
func cut(words []string) []string {
	var out []string
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if len(word) < 2 || word[0] != '-' || !ok {
			name, value = word, ""
		}
		switch name {
		case "-h":
			name = "--help"
		case "--host_ip":
			name = "--host-ip"
		}
		out = append(out, name)
		if ok && len(word) >= 2 && word[0] == '-' {
			out = append(out, value)
		}
	}
	return out
}

func invalid(format string, args ...any) error {
	return &Refusal{StatusInvalidArguments, fmt.Sprintf(format, args...)}
}

// parse13 parses the arguments of Android 13's crosvm, which accepts --extended-status only as the
// first argument.
func (t Table) parse13(words []string, exists Exists) (*Command, error) {
	c := &Command{Log: "info"}
	if len(words) > 0 && words[0] == "--extended-status" {
		c.Extended = true
		words = words[1:]
	}
	if len(words) == 0 || words[0] == "--help" || words[0] == "-h" {
		c.Help = true
		return c, nil
	}
	c.Verb, c.Args = words[0], words[1:]
	if !slices.Contains(verbs[Android13], c.Verb) {
		return nil, failed("invalid subcommand: %q", c.Verb)
	}
	return c, t.parseVerb(Android13, c, exists)
}

func failed(format string, args ...any) error {
	return &Refusal{StatusFailed, fmt.Sprintf(format, args...)}
}

// parseVerb parses the arguments after a verb.
func (t Table) parseVerb(r Release, c *Command, exists Exists) error {
	if slices.Contains(c.Args, "--help") || r == Android13 && slices.Contains(c.Args, "-h") {
		c.Help = true
		return nil
	}
	if c.Verb != "run" {
		return nil // the verb parses its arguments
	}
	used, err := t.options(r, c.Args)
	if err != nil {
		return err
	}
	c.Machine, err = r.machine(used, exists)
	return err
}

// A use is a flag on a command line, with its value.
type use struct {
	Flag
	value string
}

// options parses the flags of "run", and the kernel as the flag KERNEL.
func (t Table) options(r Release, words []string) ([]use, error) {
	refuse := invalid
	if r == Android13 {
		refuse = failed
	}
	var out []use
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if !strings.HasPrefix(word, "-") || word == "-" {
			if slices.ContainsFunc(out, func(u use) bool { return u.Kind == "positional" }) {
				return nil, refuse("Unrecognized argument: %s", word)
			}
			out = append(out, use{Flag{Name: "KERNEL", Kind: "positional"}, word})
			continue
		}
		name, value, inline := word, "", false
		if r == Android13 && strings.HasPrefix(word, "--") { // cut has split those of later releases
			name, value, inline = strings.Cut(word, "=")
		}
		lookup := name
		if r == Android13 && name == "--host_ip" {
			lookup = "--host-ip"
		}
		f, known := t.Find(r, lookup)
		switch {
		case !known:
			return nil, refuse("Unrecognized argument: %s", name)
		case f.Kind == "switch" && inline:
			return nil, refuse("%s takes no value", name)
		case f.Kind == "switch":
			out = append(out, use{f, ""})
			continue
		case !inline && len(words) == 0:
			return nil, refuse("No value provided for option '%s'.", name)
		case !inline:
			value, words = words[0], words[1:]
		}
		if !f.Repeatable && slices.ContainsFunc(out, func(u use) bool { return u.Name == f.Name }) {
			return nil, refuse("Error parsing option '%s' with value '%s': duplicate values provided", name, value)
		}
		if err := r.checkValue(f, value); err != nil {
			return nil, refuse("Error parsing option '%s' with value '%s': %v", name, value, err)
		}
		out = append(out, use{f, value})
	}
	return out, nil
}
