package strictyaml

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// Encode returns a node as a YAML document. Parse of that document returns the same node.
func (n *Node) Encode() []byte {
	var b bytes.Buffer
	switch {
	case n == nil:
	case n.isBlock():
		n.block(&b, "")
	default:
		n.flow(&b, "")
	}
	return b.Bytes()
}

// isBlock reports whether a node is written in block style, on several lines.
func (n *Node) isBlock() bool {
	return n.Kind == Mapping && len(n.Pairs) > 0 || n.Kind == List && len(n.Items) > 0 && !n.isShort()
}

// isShort reports whether a list is written on one line.
func (n *Node) isShort() bool {
	length := 0
	for _, item := range n.Items {
		if item.Kind == Mapping || item.Kind == List {
			return false
		}
		length += len(item.Text) + len(", ")
	}
	return length <= 80
}

func (n *Node) block(b *bytes.Buffer, indent string) {
	if n.Kind == List {
		for _, item := range n.Items {
			b.WriteString(indent + "-")
			if !item.isBlock() {
				b.WriteByte(' ')
				item.flow(b, indent+"  ")
				continue
			}
			var inner bytes.Buffer
			item.block(&inner, indent+"  ")
			b.WriteString(" " + strings.TrimPrefix(inner.String(), indent+"  "))
		}
		return
	}
	for _, p := range n.Pairs {
		b.WriteString(indent + quote(p.Key) + ":")
		if p.Value.isBlock() {
			b.WriteByte('\n')
			p.Value.block(b, indent+"  ")
			continue
		}
		b.WriteByte(' ')
		p.Value.flow(b, indent+"  ")
	}
}

// flow writes the value after a key or a dash, and ends the line.
func (n *Node) flow(b *bytes.Buffer, indent string) {
	switch n.Kind {
	case Mapping:
		b.WriteString("{}")
	case List:
		b.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(item.scalar())
		}
		b.WriteByte(']')
	case String:
		if literalForm.MatchString(n.Text) {
			b.WriteByte('|')
			for _, line := range strings.Split(strings.TrimSuffix(n.Text, "\n"), "\n") {
				b.WriteByte('\n')
				if line != "" {
					b.WriteString(indent + line)
				}
			}
			break
		}
		b.WriteString(n.scalar())
	default:
		b.WriteString(n.scalar())
	}
	b.WriteByte('\n')
}

// literalForm matches a text that can be a literal block ("|"): lines of printable ASCII with
// exactly one line break at the end of the text. The first line does not begin with a space.
var literalForm = regexp.MustCompile(`^[!-~][ -~]*\n(([!-~][ -~]*|  *[!-~][ -~]*)?\n)*([!-~][ -~]*| +[!-~][ -~]*)\n$|^[!-~][ -~]*\n$`)

func (n *Node) scalar() string {
	switch n.Kind {
	case String:
		return quote(n.Text)
	case Other, invalid:
		return "null"
	}
	return n.Text
}

// plainForm matches a string that every YAML parser reads as a string without quotes, in any
// position.
var plainForm = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./@=+-]*( [A-Za-z0-9_./@=+(][A-Za-z0-9_./@=+;()-]*)*$`)

// words match what YAML 1.1 or 1.2 reads as a boolean or null.
var words = regexp.MustCompile(`^(?i:true|false|yes|no|on|off|y|n|null)$`)

func quote(s string) string {
	if plainForm.MatchString(s) && !words.MatchString(s) {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b) // a JSON string is a YAML 1.2 string
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // encoding a string does not fail
	return strings.TrimSuffix(b.String(), "\n")
}

// MarshalJSON returns a node as JSON with its keys in document order.
func (n *Node) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	switch n.Kind {
	case Mapping:
		b.WriteByte('{')
		for i, p := range n.Pairs {
			if i > 0 {
				b.WriteByte(',')
			}
			key, _ := json.Marshal(p.Key)
			value, err := p.Value.MarshalJSON()
			if err != nil {
				return nil, err
			}
			b.Write(key)
			b.WriteByte(':')
			b.Write(value)
		}
		b.WriteByte('}')
	case List:
		b.WriteByte('[')
		for i, item := range n.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			value, err := item.MarshalJSON()
			if err != nil {
				return nil, err
			}
			b.Write(value)
		}
		b.WriteByte(']')
	case Integer:
		if n.fits {
			return json.Marshal(n.integer)
		}
		return json.Marshal(n.Text)
	case Float:
		if json.Valid([]byte(n.Text)) {
			return []byte(n.Text), nil
		}
		return json.Marshal(n.Text)
	case Bool:
		return []byte(strings.ToLower(n.Text)), nil
	case String:
		return json.Marshal(n.Text)
	default:
		return []byte("null"), nil
	}
	return b.Bytes(), nil
}
