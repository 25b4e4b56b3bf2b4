package recipe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Size is a number of bytes, written with its unit: "512MiB", "8GiB".
type Size int64

// Units of Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

var units = []struct {
	name string
	size Size
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}}

// UnmarshalScalar implements strictyaml.ScalarUnmarshaler. Zero needs no unit.
func (s *Size) UnmarshalScalar(text string) error {
	if text == "0" {
		*s = 0
		return nil
	}
	for _, unit := range units {
		digits, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(digits, " "), 10, 63)
		if err != nil || int64(n) > math.MaxInt64/int64(unit.size) {
			break
		}
		*s = Size(n) * unit.size
		return nil
	}
	return fmt.Errorf("%q is not a size; write a whole number and a unit, such as 512MiB or 8GiB", text)
}

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	for _, unit := range units {
		if s != 0 && s%unit.size == 0 {
			return strconv.FormatInt(int64(s/unit.size), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// A Mode is a file's permission bits, written as an octal string: "0750".
type Mode uint32

// UnmarshalText implements encoding.TextUnmarshaler. A string is required because YAML 1.1 and 1.2
// parse the number 0750 differently.
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 12)
	if err != nil {
		return fmt.Errorf("%q is not a mode; write it in octal and in quotes, such as \"0750\"", text)
	}
	*m = Mode(n)
	return nil
}

// A Duration is a time span in Go's format: "500ms", "1m30s".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration; write a number and a unit, such as 500ms, 30s or 2m", text)
	}
	*d = Duration(v)
	return nil
}

// A Setting is the value of a postgresql.conf parameter, or of the kernel's, as
// the recipe writes it: a string, a number or a boolean.
type Setting string

// UnmarshalScalar implements strictyaml.ScalarUnmarshaler.
func (s *Setting) UnmarshalScalar(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q has control characters, which no setting can hold", text)
	}
	*s = Setting(text)
	return nil
}

// A Command is a program and its arguments.
type Command []string

// imageCommand means the base image's command.
const imageCommand = "image"

// UnmarshalScalar implements strictyaml.ScalarUnmarshaler.
func (c *Command) UnmarshalScalar(text string) error {
	if text != imageCommand {
		return fmt.Errorf("%q is neither a list, such as [/usr/bin/server, --port, \"80\"], nor the word %s, for what the base image runs", text, imageCommand)
	}
	*c = Command{imageCommand}
	return nil
}

// OfImage reports whether c is the base image's command.
func (c Command) OfImage() bool { return len(c) == 1 && c[0] == imageCommand }
