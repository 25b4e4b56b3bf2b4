package strictyaml

import (
	"fmt"
	"math"

	"github.com/goccy/go-yaml/ast"
)

// A Kind is the kind of a Node.
type Kind int

// Kinds of nodes.
const (
	Other Kind = iota // null, infinity and other values that no type accepts
	String
	Integer
	Float
	Bool
	List
	Mapping
	invalid // reported already
)

// A Node is a value of a document and its place.
type Node struct {
	Place
	Kind  Kind
	Text  string  // of a scalar, as written, without quotes
	Items []*Node // of a List
	Pairs []Pair  // of a Mapping, each key once

	integer int64 // of an Integer that fits
	fits    bool
	what    string // of Other, for messages
}

// A Pair is a key of a mapping and its value.
type Pair struct {
	Key   string
	At    Place // of the key
	Value *Node
}

// Get returns the value of a mapping's key, or nil.
func (n *Node) Get(key string) *Node {
	for _, p := range n.Pairs {
		if p.Key == key {
			return p.Value
		}
	}
	return nil
}

// A converter makes Nodes from the YAML library's nodes, and reports unsupported syntax.
type converter struct {
	doc   *Document
	depth int
}

func (c *converter) node(n ast.Node, path string) *Node {
	out := &Node{Place: c.doc.at(place(n)), Kind: invalid}
	if c.depth++; c.depth > maxDepth {
		c.doc.Fault(out.Place, path+": "+tooDeepMessage)
		return out
	}
	defer func() { c.depth-- }()
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		message := "anchors, aliases and tags are not used here; write the value out"
		if path != "" {
			message = path + ": " + message
		}
		c.doc.Fault(out.Place, message)
		return out
	case *ast.StringNode, *ast.LiteralNode:
		out.Kind = String
	case *ast.IntegerNode:
		out.Kind = Integer
		out.integer, out.fits = integer(n)
	case *ast.FloatNode:
		out.Kind = Float
	case *ast.BoolNode:
		out.Kind = Bool
	case *ast.SequenceNode:
		out.Kind = List
		for i, value := range n.Values {
			out.Items = append(out.Items, c.node(value, Index(path, i)))
		}
		return out
	case ast.MapNode:
		out.Kind = Mapping
		out.Pairs = c.pairs(n, path)
		return out
	case *ast.NullNode:
		out.Kind, out.what = Other, "nothing"
	default:
		out.Kind, out.what = Other, n.Type().YAMLName()
	}
	out.Text = text(n)
	return out
}

// pairs returns the pairs of a mapping. It reports keys that are not plain strings and duplicate
// keys, and omits them.
func (c *converter) pairs(m ast.MapNode, path string) (out []Pair) {
	first := map[string]Place{}
	for pairs := m.MapRange(); pairs.Next(); {
		at := c.doc.at(place(pairs.Key()))
		if !isString(pairs.Key()) || pairs.Key().IsMergeKey() {
			c.doc.Fault(at, fmt.Sprintf("a key must be a plain string, not %s", pairs.Key()))
			continue
		}
		key := text(pairs.Key())
		if before, twice := first[key]; twice {
			c.doc.Fault(at, fmt.Sprintf("key %q is given twice, first on line %d", key, before.Line))
			continue
		}
		first[key] = at
		out = append(out, Pair{key, at, c.node(pairs.Value(), Join(path, key))})
	}
	return out
}

// place returns the position where a node begins.
func place(n ast.Node) Position {
	// The token of a mapping is the colon of its first pair.
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		n = m.Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return Position{t.Position.Line, t.Position.Column}
	}
	return Position{}
}

func isString(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return true
	}
	return false
}

// text returns a scalar as written, without quotes.
func text(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	if t := n.GetToken(); t != nil {
		return t.Value
	}
	return ""
}

func integer(i *ast.IntegerNode) (int64, bool) {
	switch v := i.Value.(type) {
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	}
	return 0, false
}

// describe returns a description for messages, such as `the string "x"` or "a list".
func (n *Node) describe() string {
	switch n.Kind {
	case String:
		return "the string \"" + n.Text + "\""
	case Integer, Float:
		return "the number " + n.Text
	case Bool:
		return "the boolean " + n.Text
	case List:
		return "a list"
	case Mapping:
		return "a mapping"
	}
	return n.what
}
