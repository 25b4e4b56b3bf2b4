// Package costtest measures memory in tests and fuzzers of parsers: the allocations of a parser of
// untrusted bytes must be proportional to its input.
package costtest

import (
	"runtime/metrics"
	"testing"
)

// A Budget limits the bytes that a parser may allocate: Base, plus Ratio for each byte of the
// input. Memory that has become garbage counts too.
type Budget struct{ Base, Ratio uint64 }

// Text is the budget of parsers of JSON, YAML and lines, which make a value of a few words for each
// token of a few bytes.
var Text = Budget{Base: 8 << 20, Ratio: 256}

// Run calls parse and returns the bytes that it allocated. It fails the test if they exceed the
// budget for an input of size bytes. Allocations by other goroutines during the call count too.
func (b Budget) Run(t testing.TB, size int, parse func()) uint64 {
	t.Helper()
	before := allocated()
	parse()
	cost := allocated() - before
	b.check(t, size, cost)
	return cost
}

func (b Budget) check(t testing.TB, size int, cost uint64) {
	t.Helper()
	if limit := b.Base + b.Ratio*uint64(size); cost > limit {
		t.Errorf("allocated %d bytes for an input of %d bytes, more than the %d of its budget", cost, size, limit)
	}
}

// Watch is Run for the rest of a function: defer budget.Watch(t, len(input))().
func (b Budget) Watch(t testing.TB, size int) func() {
	before := allocated()
	return func() {
		t.Helper()
		b.check(t, size, allocated()-before)
	}
}

// Output fails the test if output, the bytes that a parser made of an input of size bytes, exceeds
// the budget.
func (b Budget) Output(t testing.TB, size int, output int64) {
	t.Helper()
	if limit := b.Base + b.Ratio*uint64(size); output < 0 || uint64(output) > limit {
		t.Errorf("made %d bytes of an input of %d bytes, more than the %d of its budget", output, size, limit)
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
