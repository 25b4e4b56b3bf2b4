// Package su simulates the su of a rooted phone, which is set-user-ID root. /system/etc/su selects
// the implementation: "magisk", "kernelsu", "apatch", "aosp" (the su of Android's userdebug
// builds), or "denied" (Magisk's, after the user has denied root). Options, argument joining,
// messages and exit statuses follow the sources of these programs. Uses that the sources do not
// define fail.
package su

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const shell = "/system/bin/sh"

// Main runs su with these arguments. It does not return.
func Main(words []string) {
	text, _ := os.ReadFile("/system/etc/su") // if this fails, the kind is unknown
	kind := strings.TrimSpace(string(text))
	m, ok := managers[kind]
	if kind == "aosp" {
		fail(1, os.Stderr, aosp(words))
	}
	if !ok {
		fail(1, os.Stderr, fmt.Errorf("su: unknown kind %q", kind))
	}
	if kind == "denied" {
		fmt.Fprintln(os.Stderr, "Permission denied")
		os.Exit(int(syscall.EACCES))
	}
	r, err := m.parse(words)
	if err != nil {
		to := os.Stderr
		if m.complainsOnStdout {
			to = os.Stdout
		}
		fail(m.badOption, to, err)
	}
	fail(1, os.Stderr, m.run(r))
}

func fail(status int, to io.Writer, err error) {
	fmt.Fprintln(to, err)
	os.Exit(status)
}

// A manager describes the su of a root manager.
type manager struct {
	flags             string // options without a value
	values            string // options with one
	long              map[string]byte
	badOption         int
	complainsOnStdout bool
	path              string // added to the end of $PATH
	env               string // "NAME=FILE" for the shell's start file, set if FILE exists
	programs          bool   // su UID PROGRAM ARGUMENTS runs the program
	version           string
	unclear           bool // the meaning of words after a UID is unknown
}

var long = map[string]byte{"command": 'c', "help": 'h', "login": 'l', "preserve-environment": 'p', "shell": 's', "mount-master": 'M',
	"group": 'g', "supp-group": 'G', "context": 'Z', "version": 'v'}

var managers = map[string]manager{
	"magisk": {flags: "hilmpMvV", values: "cgGZts", long: long, badOption: 2, path: "/debug_ramdisk", version: "28.1:MAGISKSU"},
	"denied": {},
	"kernelsu": {flags: "hlpMWvV", values: "csgGZ", long: map[string]byte{"ksu-no-new-privs": 'W'}, badOption: 255, complainsOnStdout: true,
		path: "/data/adb/ksu/bin", env: "ENV=/data/adb/ksu/.ksurc", programs: true, version: "3.1.0:KernelSU"},
	"apatch": {flags: "hlpMPvV", values: "csgGZ", long: map[string]byte{"no-pty": 'P'}, badOption: 255, complainsOnStdout: true,
		path: "/data/adb/ap/bin", env: "ENV=/data/adb/ap/.aprc", unclear: true, version: "11142:APatch"},
}

// A request is a parsed command line: the program to run, and its user.
type request struct {
	uid     int
	command string   // for the shell; valid if has is set
	program []string // instead of a shell
	shell   string
	has     bool
	version bool
}

// parse parses su's arguments: getopt options, then a user, then arguments that depend on the
// manager. It joins -c's value and all following arguments with spaces into one command, which
// loses their quoting.
func (m manager) parse(args []string) (request, error) {
	r := request{shell: shell}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "-" {
			continue // a login shell
		}
		if !strings.HasPrefix(word, "-") {
			uid, err := strconv.Atoi(word)
			if err != nil {
				return r, fmt.Errorf("su: unknown user %s", word)
			}
			r.uid = uid
			switch {
			case len(args) > 0 && strings.HasPrefix(args[0], "-"):
			case m.unclear && len(args) > 0:
				return r, fmt.Errorf("su: what this su makes of %q after a user is not known", args[0])
			case m.programs:
				r.program = args
				return r, nil
			default: // the rest is ignored
				return r, nil
			}
			continue
		}
		option, rest, inline := word[1], "", false
		if name, isLong := strings.CutPrefix(word, "--"); isLong {
			var known bool
			name, rest, inline = strings.Cut(name, "=")
			if option, known = m.long[name]; !known {
				if option, known = long[name]; !known {
					return r, fmt.Errorf("su: unrecognized option '%s'", word)
				}
			}
		} else if len(word) > 2 {
			if strings.IndexByte(m.flags, option) >= 0 { // -mm and the like
				args = append([]string{"-" + word[2:]}, args...)
			} else {
				rest, inline = word[2:], true
			}
		}
		switch {
		case strings.IndexByte(m.flags, option) >= 0:
			r.version = r.version || option == 'v' || option == 'V'
			continue
		case strings.IndexByte(m.values, option) < 0:
			return r, fmt.Errorf("su: invalid option -- '%c'", option)
		case inline:
		case len(args) == 0:
			return r, fmt.Errorf("su: option requires an argument -- '%c'", option)
		default:
			rest, args = args[0], args[1:]
		}
		switch option {
		case 'c':
			r.command, r.has = strings.Join(append([]string{rest}, args...), " "), true
			return r, nil
		case 's':
			r.shell = rest
		}
	}
	return r, nil
}

// run executes the request as root or as the requested user, outside the caller's cgroup. It
// returns only on errors.
func (m manager) run(r request) error {
	if r.version {
		fmt.Println(m.version)
		os.Exit(0)
	}
	os.Setenv("PATH", os.Getenv("PATH")+":"+m.path)
	if name, file, ok := strings.Cut(m.env, "="); ok {
		if _, err := os.Stat(file); err == nil {
			os.Setenv(name, file)
		}
	}
	argv := r.program
	if len(argv) == 0 {
		argv = []string{r.shell}
		if r.has {
			argv = append(argv, "-c", r.command)
		}
	}
	if err := becomeRoot(); err != nil {
		return err
	}
	// Magisk's daemon, the shell's parent, is in the root cgroup; KernelSU's and APatch's su move
	// there.
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.procs", []byte("0"), 0); err != nil {
		return fmt.Errorf("su: %w", err)
	}
	if r.uid != 0 {
		if err := errors.Join(syscall.Setgroups([]int{r.uid}), syscall.Setgid(r.uid), syscall.Setuid(r.uid)); err != nil {
			return fmt.Errorf("su: become %d: %w", r.uid, err)
		}
	}
	return execute(argv)
}

// aosp runs Android's su (system/extras/su/su.cpp): it has no options, and takes a user, then a
// program. The program stays in the caller's cgroup.
func aosp(args []string) error {
	if uid := os.Getuid(); uid != 0 && uid != 2000 {
		return errors.New("su: not allowed")
	}
	uid, argv := 0, []string{shell}
	if len(args) > 0 {
		var err error
		if uid, err = strconv.Atoi(args[0]); err != nil && args[0] != "root" {
			return fmt.Errorf("su: invalid uid/gid '%s'", args[0])
		}
	}
	if len(args) > 1 {
		argv = args[1:]
	}
	if err := becomeRoot(); err != nil {
		return err
	}
	if uid != 0 {
		if err := errors.Join(syscall.Setgid(uid), syscall.Setuid(uid)); err != nil {
			return fmt.Errorf("su: setuid: %w", err)
		}
	}
	return execute(argv)
}

func becomeRoot() error {
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(0), syscall.Setuid(0)); err != nil {
		return fmt.Errorf("su: become root: %w", err)
	}
	return nil
}

// execute replaces the process with a program, which it searches in $PATH.
func execute(argv []string) error {
	path := argv[0]
	if !strings.Contains(path, "/") {
		dirs := strings.Split(os.Getenv("PATH"), ":")
		i := slices.IndexFunc(dirs, func(dir string) bool {
			info, err := os.Stat(dir + "/" + argv[0])
			return err == nil && info.Mode().IsRegular()
		})
		if i >= 0 {
			path = dirs[i] + "/" + argv[0]
		}
	}
	return fmt.Errorf("su: failed to exec %s: %w", argv[0], syscall.Exec(path, argv, os.Environ()))
}
