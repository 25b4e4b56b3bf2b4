// Package repeat sets how often a test repeats a random experiment: a few times with a fixed seed
// in `make test`, many times with random seeds in `make endurance`.
package repeat

import (
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Scale is the environment variable that enables endurance runs. Its value, a number such as 0.1 or
// 10, multiplies the counts.
const Scale = "SOV_ENDURANCE"

// Times returns few, or in an endurance run, many times the factor in $SOV_ENDURANCE, at least 1.
func Times(t testing.TB, few, many int) int {
	t.Helper()
	text := os.Getenv(Scale)
	if text == "" {
		return few
	}
	factor, err := strconv.ParseFloat(text, 64)
	if err != nil || factor < 0 || math.IsInf(factor, 0) || math.IsNaN(factor) {
		t.Fatalf("$%s is %q, and must be a number such as 0.5", Scale, text)
	}
	return max(1, int(math.Round(float64(many)*factor)))
}

// Whole reports whether a test tries every combination: in an endurance run. Otherwise it tries
// each value once or twice.
func Whole() bool { return os.Getenv(Scale) != "" }

// Seed returns and logs a seed for random numbers: always 1, or a random seed in an endurance run.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(1)
	if Whole() {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	return seed
}
