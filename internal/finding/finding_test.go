package finding

import (
	"os"
	"testing"
)

func ExamplePrint() {
	_ = Print(os.Stdout, []Finding{
		Pass("process", "daemon %d runs", 10),
		{Check: "tap", Title: "TAP interface", Verdict: Failed, Found: "vm_sql does not exist", Cause: "someone deleted it", Fixable: true},
		{Check: "clock", Verdict: Unknown, Found: "the guest does not answer", Cause: "not printed", ConsequenceOf: "tap"},
		Skip("Tailscale", "no auth key"),
		{Check: "QEMU", Verdict: Warning, Found: "not found", Advice: "apt-get install qemu-system-arm"},
	})
	// Output:
	// ok       process        daemon 10 runs
	// FAILED   TAP interface  vm_sql does not exist
	//                         likely: someone deleted it
	//                         --fix repairs this
	// ?        clock          the guest does not answer
	//                         a consequence of TAP interface
	// -        Tailscale      no auth key
	// warning  QEMU           not found
	//                         → apt-get install qemu-system-arm
}

func TestFailures(t *testing.T) {
	all := []Finding{Pass("a", ""), Fail("b", "x", ""), Skip("c", ""), {Check: "d", Verdict: Warning}, Fail("e", "y", "")}
	got := Failures(all)
	if len(got) != 2 || got[0].String() != "b: x" || got[1].Check != "e" || len(all) != 5 || all[0].Check != "a" {
		t.Errorf("%v of %v", got, all)
	}
}
