package endurance

import (
	"fmt"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/repeat"
	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

func TestMain(m *testing.M) {
	if !repeat.Whole() {
		fmt.Printf("endurance: not asked for: set $%s to a number, or run make endurance\n", repeat.Scale)
		return
	}
	sovtest.Main(m)
}
