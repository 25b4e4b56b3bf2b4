// Package strictyaml decodes a YAML document into Go structs strictly: unknown keys, duplicate
// keys, values of another type, anchors, aliases, tags and further documents are errors with line
// and column, and the error of an unknown key suggests a similar one. All errors of a document are
// reported together.
//
// Keys are the `yaml` tags of exported struct fields. Values are never
// converted: a field of a numeric type takes a number, a string field takes a
// string. A type that implements [encoding.TextUnmarshaler] takes a string, one
// that implements [ScalarUnmarshaler] takes any scalar as it is written, and a
// struct that implements [Abbreviated] takes one of its fields alone. A *[Node]
// takes anything. Fields whose keys are absent keep the values they had.
//
// Documents may be laid over each other with [Merge] before they are decoded.
//
// The Document has the position of each value, so that later checks can also report the line.
package strictyaml
