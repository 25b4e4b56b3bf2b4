package apk

import (
	"bytes"
	"fmt"
	"testing"
)

// alpineSized makes an index with as many packages as Alpine's main and community repositories have
// together. As there, all packages depend on one library, most on a few more, and chains of
// dependencies have a hundred packages.
func alpineSized(b *testing.B) []byte {
	const count = 25000
	var packages []*Package
	for i := range count {
		deps := "so:libc.so.1"
		for _, d := range []int{1, 7, 1000} {
			if i%100 > 0 && i >= d {
				deps += fmt.Sprintf(" so:lib%d.so.1", i-d)
			}
		}
		packages = append(packages, testPackage(b, fmt.Sprintf("pkg%d-1.%d-r0 D:%s; p:so:lib%d.so.1=1.0 cmd:tool%d=1.%d-r0", i, i%10, deps, i, i, i%10)))
	}
	return indexFile(b, append(packages, testPackage(b, "libc-1 p:so:libc.so.1=1")))
}

func BenchmarkReadIndex(b *testing.B) {
	data := alpineSized(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := ReadIndex(bytes.NewReader(data), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSolve(b *testing.B) {
	index, err := ReadIndex(bytes.NewReader(alpineSized(b)), nil)
	if err != nil {
		b.Fatal(err)
	}
	world, err := ParseDeps("pkg24999 pkg19950 cmd:tool500")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Solve(Request{World: world, Repositories: []*Repository{{Index: index}}})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(s.Install)), "packages")
	}
}
