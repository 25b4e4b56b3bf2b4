// Package strictyaml decodes a YAML document into Go structs strictly. Unknown keys, duplicate
// keys, values of another type, anchors, aliases, tags and further documents are errors with line
// and column. The error for an unknown key suggests a similar one. All errors of a document are
// reported together.
//
// Keys are the `yaml` tags of exported struct fields. Values are never converted: a numeric field
// requires a number, a string field a string. A type that implements [encoding.TextUnmarshaler]
// accepts a string. A type that implements [ScalarUnmarshaler] accepts the text of any scalar. A
// struct that implements [Abbreviated] also accepts the value of one of its fields. A *[Node]
// accepts any value. Fields whose keys are absent are not changed.
//
// [Merge] merges documents before they are decoded.
//
// The Document has the position of each value, so that later checks can also report the line.
package strictyaml
