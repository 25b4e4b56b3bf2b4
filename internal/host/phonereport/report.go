package phonereport

import (
	"fmt"
	"strconv"
	"strings"
)

// header is the first line of a report; the number is the version of the format.
const header = "sov phone report 1"

const preamble = header + `
Read it before you send it. Hardware addresses and addresses of networks were replaced by others; serial numbers, accounts and the
names of apps and networks were not asked for. To add what the network looks like in another scene (Wi-Fi, mobile data, a VPN, a
hotspot), bring the phone into it and run the command again with the same file.
`

// mark begins a section's first line and is followed by the section's name.
const mark = "== "

// Names of sections. Those of further scenes have a number: "rules 2".
const (
	Properties    = "properties"           // [NAME]: [VALUE], as getprop prints them
	Crosvm        = "crosvm"               // its path
	CrosvmVersion = "crosvm version"       //
	CrosvmHelp    = "crosvm run --help"    //
	Programs      = "virtualization"       // what com.android.virt has in bin, one a line
	Nodes         = "nodes"                // MODE UID GID MAJOR:MINOR NAME, numbers of devices in hexadecimal digits, below /dev
	Labels        = "labels"               // SELinux labels of nodes
	Rules         = "rules"                // ip rule
	Rules6        = "rules of IPv6"        //
	Routes        = "routes"               // ip route show table all
	Routes6       = "routes of IPv6"       //
	Chains        = "chains"               // iptables-save
	Chains6       = "chains of IPv6"       //
	Sysctls       = "sysctls"              // PATH=VALUE, below /proc/sys
	Cgroups       = "control groups"       // mounts and the group of a root shell
	RootManager   = "root manager"         // names, a line each, then what its su says
	Applets       = "toybox"               // the applets
	Kernel        = "kernel"               // release and machine
	Config        = "kernel configuration" // the options that matter here
	VM            = "vm info"              //
	Power         = "power"                // the battery, and the files of wake locks
)

// scene are the sections that depend on the network that the phone is connected to.
var scene = []string{Rules, Rules6, Routes, Routes6, Chains, Chains6, Sysctls}

// A Report is the data collected from a phone.
type Report struct {
	sections []section
}

type section struct{ name, text string }

// Section returns a section's lines, "" if it is absent.
func (r *Report) Section(name string) string {
	for _, s := range r.sections {
		if s.name == name {
			return s.text
		}
	}
	return ""
}

// Lines returns the lines of a section that are not empty.
func (r *Report) Lines(name string) []string {
	var out []string
	for line := range strings.Lines(r.Section(name)) {
		if line = strings.TrimRight(line, "\n"); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// String returns the report's file.
func (r *Report) String() string {
	var out strings.Builder
	out.WriteString(preamble)
	for _, s := range r.sections {
		fmt.Fprintf(&out, "\n%s%s\n%s", mark, s.name, s.text)
	}
	return out.String()
}

// maxReport bounds a report, in bytes; usually it has some 100 KiB.
const maxReport = 8 << 20

// Parse reads a report's file.
func Parse(text string) (*Report, error) {
	if !strings.HasPrefix(text, header+"\n") || len(text) > maxReport {
		return nil, fmt.Errorf("phone report: the file does not begin with %q", header)
	}
	_, body, found := strings.Cut(text, "\n"+mark)
	if !found {
		return nil, fmt.Errorf("phone report: the file has no section")
	}
	r := &Report{}
	r.parse(mark + body)
	return r, nil
}

// parse adds the sections of a text that begins with one.
func (r *Report) parse(text string) {
	for line := range strings.Lines(text) {
		if name, begins := strings.CutPrefix(line, mark); begins {
			r.sections = append(r.sections, section{name: strings.TrimSpace(name)})
			continue
		}
		last := &r.sections[len(r.sections)-1]
		last.text += line
	}
	for i := range r.sections {
		if text := strings.TrimRight(r.sections[i].text, "\n"); text != "" {
			r.sections[i].text = text + "\n"
		} else {
			r.sections[i].text = ""
		}
	}
}

// AddScene adds the network sections of another report of the same phone.
func (r *Report) AddScene(other *Report) {
	n := 2
	for r.has(Rules + " " + strconv.Itoa(n)) {
		n++
	}
	for _, name := range scene {
		r.sections = append(r.sections, section{name + " " + strconv.Itoa(n), other.Section(name)})
	}
}

func (r *Report) has(name string) bool {
	for _, s := range r.sections {
		if s.name == name {
			return true
		}
	}
	return false
}
