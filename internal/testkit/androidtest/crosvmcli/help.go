package crosvmcli

import (
	"fmt"
	"strings"
)

// Help returns the text of --help for a verb, or for crosvm if verb is empty.
func (t Table) Help(r Release, verb string) string {
	var b strings.Builder
	switch {
	case verb == "":
		fmt.Fprintf(&b, "Usage: crosvm [--extended-status]%s <command> [<args>]\n\ncrosvm\n\nOptions:\n  --extended-status enable extended exit status\n",
			map[bool]string{true: " [--log-level <log-level>] [--syslog-tag <syslog-tag>] [--no-syslog]"}[r != Android13])
		b.WriteString("\nCommands:\n")
		for _, v := range r.verbs() {
			fmt.Fprintf(&b, "  %s\n", v)
		}
	case verb != "run":
		fmt.Fprintf(&b, "Usage: crosvm %s <socket_path>\n", verb)
	case r == Android13:
		b.WriteString("Usage: crosvm run [arguments] KERNEL\n\nArguments:\n")
		for _, f := range t {
			if f.Kind == "positional" || !f.builtIn(r) {
				continue
			}
			short := "     "
			if f.Short != "" {
				short = " " + f.Short + ", "
			}
			name := strings.TrimPrefix(f.Name, "--")
			if name == "host-ip" {
				name = "host_ip"
			}
			value := ""
			if f.Kind == "option" {
				value = "=VALUE"
			}
			fmt.Fprintf(&b, "%s--%-12s%-11s%s\n", short, name, value, r.describe(f))
		}
		fmt.Fprintf(&b, "%s--%-12s%-11s%s\n", " -h, ", "help", "", "Print help message.")
	default:
		b.WriteString("Usage: crosvm run [<KERNEL>] [options]\n\nStart a new crosvm instance\n\nPositional Arguments:\n  KERNEL            bzImage of kernel to run\n\nOptions:\n")
		for _, f := range t {
			if f.Kind == "positional" || !f.builtIn(r) {
				continue
			}
			name := f.Name
			if f.Short != "" {
				name = f.Short + ", " + name
			}
			if len(name) > 15 {
				fmt.Fprintf(&b, "  %s\n%20s%s\n", name, "", r.describe(f))
				continue
			}
			fmt.Fprintf(&b, "  %-16s  %s\n", name, r.describe(f))
		}
		b.WriteString("  --help            display usage information\n")
	}
	return b.String()
}

func (r Release) describe(f Flag) string {
	switch {
	case r.deprecates(f):
		return "(DEPRECATED) see --block, --net, --vsock"
	case f.Kind == "switch":
		return "switch"
	}
	return f.Value
}
