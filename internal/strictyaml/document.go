package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// A Position is a place in a document. Lines and columns count from 1. The zero Position is
// unknown.
type Position struct{ Line, Column int }

// A Place is a position in a named document.
type Place struct {
	Name string
	Position
}

// An Error is one error in a document.
type Error struct {
	Place
	Message string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Name + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Name, e.Line, e.Column, e.Message)
}

// Errors are the errors of a document, at least one, ordered by position.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes each error visible to errors.As.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, err := range e {
		out[i] = err
	}
	return out
}

// A Document has the positions of the values of a decoded document, and collects errors in them.
type Document struct {
	name   string
	places map[string]Place
	faults Errors
}

// maxSize is the maximum size of a document, in bytes. Recipes and locks have a few KiB, and the
// parsed tree needs much more memory than the text.
const maxSize = 4 << 20

// Decode decodes the single document in src into v, a pointer to a struct. name is used in
// messages. The error is of type [Errors]. The Document is never nil.
func Decode(name string, src []byte, v any) (*Document, error) {
	d := newDocument(name)
	n, ok := d.read(src)
	if ok {
		d.decode(n, v)
	}
	return d, d.Err()
}

// Parse parses the single document in src and returns its node, nil for an empty document. name is
// used in messages. The error is of type [Errors] and has only errors that do not depend on a
// target type.
func Parse(name string, src []byte) (*Node, error) {
	d := newDocument(name)
	n, _ := d.read(src)
	return n, d.Err()
}

// DecodeNode is like Decode for a node, whose values may come from several documents. name is used
// in messages without a position.
func DecodeNode(name string, n *Node, v any) (*Document, error) {
	d := newDocument(name)
	d.decode(n, v)
	return d, d.Err()
}

func newDocument(name string) *Document {
	return &Document{name: name, places: map[string]Place{}}
}

func (d *Document) decode(n *Node, v any) {
	target := reflectTarget(v)
	if n != nil {
		dec := decoder{d}
		dec.decode(n, "", target)
	}
}

// read returns a document's node, or false if it is not YAML.
func (d *Document) read(src []byte) (*Node, bool) {
	root, err := d.parse(src)
	if root == nil {
		return nil, err == nil
	}
	c := converter{doc: d}
	return c.node(root, ""), true
}

func (d *Document) at(p Position) Place { return Place{d.name, p} }

// parse returns the document's node, or nil for an empty document.
func (d *Document) parse(src []byte) (node ast.Node, err error) {
	if len(src) > maxSize {
		d.Faultf("", "%d bytes is more than the %d that are read", len(src), maxSize)
		return nil, d.Err()
	}
	// The YAML library has panicked on malformed documents before. Report such a bug as an error of
	// the document.
	defer func() {
		if r := recover(); r != nil {
			d.Faultf("", "not a YAML document: %v", r)
			node, err = nil, d.Err()
		}
	}()
	tokens := lexer.Tokenize(string(src))
	if t := tooDeep(tokens); t != nil {
		d.Fault(d.at(Position{t.Position.Line, t.Position.Column}), tooDeepMessage)
		return nil, d.Err()
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntaxFault(err)
		return nil, d.Err()
	}
	docs := slices.DeleteFunc(slices.Clone(file.Docs), func(doc *ast.DocumentNode) bool { return doc.Body == nil })
	switch len(docs) {
	case 0:
		return nil, nil
	case 1:
		return docs[0].Body, nil
	}
	d.Fault(d.at(place(docs[1].Body)), "a second YAML document begins here; one is expected")
	return nil, d.Err()
}

// tooDeep returns the first token that is nested deeper than maxDepth in flow collections, or in
// list items on one line, or nil. The YAML library recurses into these, and its time grows with the
// square of their depth.
func tooDeep(tokens token.Tokens) *token.Token {
	flow, dashes, line := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(flow-1, 0)
		case token.SequenceEntryType:
			if t.Position.Line != line {
				dashes, line = 0, t.Position.Line
			}
			dashes++
		}
		if flow > maxDepth || dashes > maxDepth {
			return t
		}
	}
	return nil
}

func (d *Document) syntaxFault(err error) {
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil {
		p := syntax.GetToken().Position
		d.Fault(d.at(Position{p.Line, p.Column}), syntax.GetMessage())
		return
	}
	d.Faultf("", "not a YAML document: %v", err)
}

// Position returns the position of the value at path, such as "vm.memory" or "services[2].command".
// If the document does not have the path, it returns the position of the nearest enclosing value.
func (d *Document) Position(path string) Position { return d.place(path).Position }

func (d *Document) place(path string) Place {
	for path != "" {
		if p, ok := d.places[path]; ok {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	if p, ok := d.places[""]; ok {
		return p
	}
	return d.at(Position{})
}

// Faultf records an error in the value at path.
func (d *Document) Faultf(path, format string, args ...any) {
	d.faults = append(d.faults, d.Errorf(path, format, args...))
}

// Errorf returns an error in the value at path without recording it.
func (d *Document) Errorf(path, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = path + ": " + message
	}
	return &Error{d.place(path), message}
}

// Fault records an error at a place.
func (d *Document) Fault(p Place, message string) {
	d.faults = append(d.faults, &Error{p, message})
}

// Err returns the errors recorded so far as [Errors], or nil.
func (d *Document) Err() error {
	if len(d.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.faults, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return d.faults
}

// Join appends a key to a path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Index appends a list index to a path.
func Index(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}
