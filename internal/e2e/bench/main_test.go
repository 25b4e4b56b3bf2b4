package bench

import (
	"flag"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		return
	}
	sovtest.Main(m)
}
