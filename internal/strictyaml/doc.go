// Package strictyaml decodes a YAML document into Go structs and takes nothing
// on trust: unknown keys, keys given twice, values of another type, anchors,
// aliases, tags and further documents are errors that carry the line and the
// column, and a misspelt key is answered with the one that was probably meant.
// All faults of a document are reported together.
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
// The Document keeps where each value stood, so that later checks of meaning
// can point at the line too.
package strictyaml
