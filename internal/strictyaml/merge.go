package strictyaml

import (
	"strings"
)

// Append is the suffix of a key whose list is appended to the existing list: "install+".
const Append = "+"

// Merge returns the node under with over merged into it. Either may be nil. Mappings are merged key
// by key. If all items of both lists are mappings with an identity, the lists are merged by
// identity, and new items of over are appended; an empty list empties the list. Any other value of
// over replaces the value in under. KEY+ appends to the list KEY. Values keep their places. The
// error is of type [Errors].
func Merge(under, over *Node) (*Node, error) {
	m := merger{}
	out := m.merge(under, over, "")
	if len(m.faults) > 0 {
		return nil, m.faults
	}
	return out, nil
}

type merger struct{ faults Errors }

func (m *merger) merge(under, over *Node, path string) *Node {
	switch {
	case over == nil:
		return under
	case over.Kind == Mapping:
		if under == nil || under.Kind != Mapping {
			under = &Node{Kind: Mapping}
		}
		return m.mappings(under, over, path)
	case over.Kind == List:
		return m.lists(under, over, path)
	}
	return over
}

func (m *merger) mappings(under, over *Node, path string) *Node {
	out := &Node{Place: over.Place, Kind: Mapping}
	out.Pairs = append(out.Pairs, under.Pairs...)
	for _, p := range over.Pairs {
		key, appends := strings.CutSuffix(p.Key, Append)
		i := out.index(key)
		var below *Node
		if i >= 0 {
			below = out.Pairs[i].Value
		}
		at := Join(path, key)
		merged := Pair{key, p.At, nil}
		if appends {
			merged.Value = m.append(below, p.Value, at)
		} else {
			merged.Value = m.merge(below, p.Value, at)
		}
		if i >= 0 {
			out.Pairs[i] = merged
		} else {
			out.Pairs = append(out.Pairs, merged)
		}
	}
	return out
}

func (n *Node) index(key string) int {
	for i, p := range n.Pairs {
		if p.Key == key {
			return i
		}
	}
	return -1
}

func (m *merger) append(under, over *Node, path string) *Node {
	if over.Kind != List || under != nil && under.Kind != List {
		m.faults = append(m.faults, &Error{over.Place, path + Append + ": appends to a list, and this is not a list"})
		return over
	}
	out := &Node{Place: over.Place, Kind: List}
	if under != nil {
		out.Items = append(out.Items, under.Items...)
	}
	for i, item := range over.Items {
		out.Items = append(out.Items, m.merge(nil, item, Index(path, len(out.Items)+i)))
	}
	return out
}

func (m *merger) lists(under, over *Node, path string) *Node {
	out := &Node{Place: over.Place, Kind: List}
	if under != nil && under.Kind == List && len(over.Items) > 0 && under.named() && over.named() {
		out.Items = append(out.Items, under.Items...)
	}
	below := len(out.Items)
	for _, item := range over.Items {
		i := 0
		for i < below && out.Items[i].identity() != item.identity() {
			i++
		}
		if i < below {
			out.Items[i] = m.merge(out.Items[i], item, Index(path, i))
		} else {
			out.Items = append(out.Items, m.merge(nil, item, Index(path, len(out.Items))))
		}
	}
	return out
}

// identities are the keys that may identify an item of a list; the first that an item has is used.
var identities = []string{"name", "to", "output", "path", "id"}

// identity returns the identity of an item of a list, or "".
func (n *Node) identity() string {
	for _, key := range identities {
		if v := n.Get(key); v != nil && v.Kind == String {
			return key + " " + v.Text
		}
	}
	return ""
}

// named reports whether every item of a list has an identity.
func (n *Node) named() bool {
	for _, item := range n.Items {
		if item.identity() == "" {
			return false
		}
	}
	return true
}
