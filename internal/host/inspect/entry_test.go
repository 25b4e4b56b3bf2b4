package inspect

import "testing"

func TestModeString(t *testing.T) {
	for mode, want := range map[uint32]string{
		0o100644: "-rw-r--r--", 0o040755: "drwxr-xr-x", 0o120777: "lrwxrwxrwx", 0o020666: "crw-rw-rw-", 0o060600: "brw-------",
		0o010644: "prw-r--r--", 0o140755: "srwxr-xr-x", 0o104755: "-rwsr-xr-x", 0o102745: "-rwxr-Sr-x", 0o041777: "drwxrwxrwt", 0o041776: "drwxrwxrwT",
	} {
		if got := modeString(mode); got != want {
			t.Errorf("%o: %s, want %s", mode, got, want)
		}
	}
}
