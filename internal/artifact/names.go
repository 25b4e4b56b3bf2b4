package artifact

import (
	"fmt"
	"regexp"
)

// nameForm is the rule for names of machines. A name names folders, secrets, chains, a host and a
// root manager's module. 32 bytes and a first digit are the union of what recipes (31, a letter
// first) and vm.json, phones and secrets (32, a letter or a digit first) have accepted, so that
// every machine that is installed keeps its name.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// NameAllowed says in a refusal what a name may be.
const NameAllowed = "1 to 32 lower-case letters, digits and hyphens, the first a letter or a digit"

// ValidName reports whether name can be a machine's.
func ValidName(name string) bool { return nameForm.MatchString(name) }

// CheckName returns an error that says what is allowed if name cannot be a machine's.
func CheckName(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("%.80q is not the name of a machine: use %s", name, NameAllowed)
	}
	return nil
}

// interfaceForm is the rule for names of the TAP interface: IFNAMSIZ of the kernel is 16 with the
// NUL.
var interfaceForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)

// CheckInterface returns an error that says what is allowed if name cannot be an interface's. The
// kernel refuses "." and ".." (dev_valid_name in net/core/dev.c).
func CheckInterface(name string) error {
	if !interfaceForm.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("%.80q is not the name of an interface: use 1 to 15 letters, digits, dots, hyphens and underscores", name)
	}
	return nil
}
