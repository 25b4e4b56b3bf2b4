package artifact

import (
	"fmt"
	"regexp"
)

// nameForm is the rule for names of machines. Names are used for folders, secrets, iptables chains,
// a host and a root manager's module. The rule is the union of earlier rules, of recipes (31 bytes,
// a letter first) and of vm.json, phones and secrets (32 bytes, a letter or a digit first), so that
// every installed machine keeps its name.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// NameAllowed describes the rule in errors.
const NameAllowed = "1 to 32 lower-case letters, digits and hyphens, the first a letter or a digit"

// ValidName reports whether name is valid for a machine.
func ValidName(name string) bool { return nameForm.MatchString(name) }

// CheckName returns an error with the rule if name is not valid for a machine.
func CheckName(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("%.80q is not the name of a machine: use %s", name, NameAllowed)
	}
	return nil
}

// interfaceForm is the rule for names of the TAP interface: IFNAMSIZ of the kernel is 16 with the
// NUL.
var interfaceForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)

// CheckInterface returns an error with the rule if name is not valid for an interface. The kernel
// refuses "." and ".." (dev_valid_name in net/core/dev.c).
func CheckInterface(name string) error {
	if !interfaceForm.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("%.80q is not the name of an interface: use 1 to 15 letters, digits, dots, hyphens and underscores", name)
	}
	return nil
}
