package strictjson

import (
	"strings"
	"testing"
)

func TestUnmarshal(t *testing.T) {
	var v struct{ Known int }
	if err := Unmarshal([]byte(" {\"known\": 1}\n"), &v); err != nil || v.Known != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	for text, want := range map[string]string{
		"":                           "empty",
		" \n":                        "empty",
		`{"known": `:                 "unexpected EOF",
		`{"known": "1"}`:             "cannot unmarshal",
		`{"known": 1, "unknown": 2}`: `unknown field "unknown"`,
		`{"known": 1} {}`:            "after the value",
		`{"known": 1}}`:              "after the value",
		`{"known": 1}]`:              "after the value",
		"{\"known\": 1}\x00":         "after the value",
	} {
		if err := Unmarshal([]byte(text), &v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
