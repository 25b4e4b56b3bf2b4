package databases

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFollow(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"progress": "roles"}` + "\n" + `{"done": {"databases": ["shop"]}}` + "\n", ""},
		{`{"progress": "roles"}` + "\n", "did not say that it is done"},
		{"hello\n", "not JSON"},
		{strings.Repeat("x", 5<<20), "too long"},
	} {
		var said []string
		did, err := follow(strings.NewReader(c.text), func(progress string) { said = append(said, progress) })
		if c.want == "" {
			if err != nil || !slices.Equal(did.Done.Databases, []string{"shop"}) || !slices.Equal(said, []string{"roles"}) {
				t.Errorf("%+v, %v, said %q", did, err, said)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %q", c.text, err, c.want)
		}
	}
}

func TestCounterReportsPeriodically(t *testing.T) {
	now := time.Unix(0, 0)
	var passed []int64
	r := count(strings.NewReader(strings.Repeat("x", 100)), func() time.Time { return now }, func(n int64, _ time.Duration) { passed = append(passed, n) })
	for range 10 {
		now = now.Add(time.Second)
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(passed, []int64{50, 100}) {
		t.Errorf("%v", passed)
	}
}
