package cluster

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/testkit/costtest"
)

// TestVerifierOfRFC7677 uses the salt and password of RFC 7677, section 3. The keys follow from the
// exchange in its example.
func TestVerifierOfRFC7677(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	v, err := newVerifier("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if v.String() != want {
		t.Errorf("%s, want %s", v, want)
	}
	if !matches(want, "pencil") || matches(want, "pencils") {
		t.Error("the verifier does not tell its password from another")
	}
	// The server's signature in the example verifies the server key: see the RFC.
	const auth = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	if got := base64.StdEncoding.EncodeToString(mac(v.serverKey, auth)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server signature %s", got)
	}
}

func TestMatchesRefusesInvalidVerifiers(t *testing.T) {
	for _, stored := range []string{
		"", "pencil", "md5d41d8cd98f00b204e9800998ecf8427e", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:AA==$AA==",
		"SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$99999999999:AA==$AA==:AA==", "SCRAM-SHA-256$x:AA==$AA==:AA==",
		"SCRAM-SHA-256$4096:??$AA==:AA==",
	} {
		if matches(stored, "pencil") {
			t.Errorf("%q matches", stored)
		}
	}
}

// TestSASLprep uses the examples of RFC 4013, section 3, and PostgreSQL's results for prohibited
// strings.
func TestSASLprep(t *testing.T) {
	for in, want := range map[string]string{
		"I\u00adX": "IX", "user": "user", "USER": "USER", "\u00aa": "a", "\u2168": "IX",
		"\u0007":               "\u0007",             // prohibited: unchanged
		"\u06271":              "\u06271",            // bidirectional: unchanged
		"\u0627a\u0628":        "\u0627a\u0628",      // left-to-right among right-to-left
		"\u0627\u0031\u0628":   "\u0627\u0031\u0628", // allowed
		"a\u00a0b\u3000c":      "a b c",              // spaces
		"\u00aa\U0001f600":     "\u00aa\U0001f600",   // newer than Unicode 3.2: unchanged
		"\ufb01":               "fi",                 // a ligature
		"a\u1806\u00aa":        "aa",                 // removed, in PostgreSQL as in RFC 3454
		"a\u200b\u00aa":        "a a",                // removed in RFC 4013, a space in PostgreSQL
		"\u00ad":               "\u00ad",             // the result would be empty: unchanged
		"e\u0301":              "\u00e9",             // composed
		"\xff\u00aa":           "\xff\u00aa",         // not UTF-8: unchanged
		"with \"quotes' and\\": "with \"quotes' and\\",
	} {
		if got := saslPrep(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzVerifier(f *testing.F) {
	f.Add("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
	f.Add("SCRAM-SHA-256$1:$:")
	f.Fuzz(func(t *testing.T, s string) {
		defer costtest.Text.Watch(t, len(s))()
		v, ok := parseVerifier(s)
		if !ok {
			return
		}
		if strings.ContainsAny(v.String(), "'\\") {
			t.Errorf("%q could leave its quotes", v)
		}
		if again, ok := parseVerifier(v.String()); len(v.salt) > 0 && len(v.storedKey) > 0 && len(v.serverKey) > 0 && (!ok || again.String() != v.String()) {
			t.Errorf("%q comes back as %q", v, again)
		}
	})
}

func FuzzSASLprep(f *testing.F) {
	f.Add("pencil")
	f.Add("\u00aa\u0627\ufb01")
	f.Fuzz(func(t *testing.T, password string) {
		defer costtest.Text.Watch(t, len(password))()
		if once := saslPrep(password); password != "" && once == "" {
			t.Errorf("nothing is left of %q", password)
		}
	})
}
