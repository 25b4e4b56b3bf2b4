package pipeline

import (
	"math/rand/v2"
	"testing"
)

func keyOf(t testing.TB, fields ...any) string {
	t.Helper()
	k := newKey()
	for i := 0; i < len(fields); i += 2 {
		k.Add(fields[i].(string), fields[i+1])
	}
	sum, err := k.sum()
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestKeysThatMustDiffer(t *testing.T) {
	seen := map[string]int{}
	for i, fields := range [][]any{
		{},
		{"a", ""},
		{"a", "b"},
		{"ab", ""},
		{"a", "b", "c", "d"},
		{"c", "d", "a", "b"},
		{"a", "bc", "d", ""},
		{"a", "1"},
		{"a", 1},
		{"a", true},
		{"a", "true"},
		{"a", []byte("1")},
		{"a", []byte("true")},
		{"a", []string{"b", "c"}},
		{"a", []string{"bc"}},
		{"a", `["bc"]`},
		{"a", nil},
		{"a", "null"},
		{"a", map[string]int{"x": 1}},
		{"a", 1.0},
	} {
		sum := keyOf(t, fields...)
		if j, ok := seen[sum]; ok {
			t.Errorf("fields %d and %d give the same key", i, j)
		}
		seen[sum] = i
	}
}

func TestKeysThatMustNotDiffer(t *testing.T) {
	if keyOf(t, "a", int8(5)) != keyOf(t, "a", uint64(5)) {
		t.Error("the width of an integer counts")
	}
	if keyOf(t, "d", DigestOf(nil)) != keyOf(t, "d", string(DigestOf(nil))) {
		t.Error("a digest is not a string")
	}
	m := map[string]int{}
	for i := range 100 {
		m[string(rune('a'+i))] = i
	}
	first := keyOf(t, "m", m)
	for range 10 {
		if keyOf(t, "m", m) != first {
			t.Fatal("the order of a map counts")
		}
	}
}

// TestKeyIsUnambiguous checks that two lists of string fields have one key only if they are equal.
// The strings consist of the bytes that separate fields in the hashed data. Many lists therefore
// differ only in the lengths.
func TestKeyIsUnambiguous(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "\x00", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x06string", "string"}
	word := func(min int) string {
		s := ""
		for range min + rng.IntN(4) {
			s += pieces[rng.IntN(len(pieces))]
		}
		return s
	}
	type list string // fields joined by a byte that no word contains
	seen := map[string]list{}
	for range 100000 {
		k := newKey()
		var l list
		for range rng.IntN(4) {
			label, value := word(1), word(0)
			if k.labels[label] {
				continue
			}
			k.Add(label, value)
			l += list(label + "\xff" + value + "\xff")
		}
		sum, err := k.sum()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[sum]; ok && other != l {
			t.Fatalf("%q and %q have one key", l, other)
		}
		seen[sum] = l
	}
	if len(seen) < 1000 {
		t.Errorf("only %d different lists were tried", len(seen))
	}
}
