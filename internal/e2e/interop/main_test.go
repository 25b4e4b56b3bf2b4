package interop

import (
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/sovtest"
)

func TestMain(m *testing.M) { sovtest.Main(m) }
