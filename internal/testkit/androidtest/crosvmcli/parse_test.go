package crosvmcli

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// TestParse checks each release's exit status for command lines; 0 means accepted.
func TestParse(t *testing.T) {
	const all, since14 = "13 14 14Q2 14Q3 15 15Q1 15Q2", "14 14Q2 14Q3 15 15Q1 15Q2"
	for _, tt := range []struct {
		words     string
		taken     string // releases
		on13      int    // exit status on Android 13 otherwise
		otherwise int    // exit status on the other releases
	}{
		{"run /k", all, 0, 0},
		{"--extended-status run /k", all, 0, 0},
		{"--log-level debug --extended-status run /k", since14, 1, 0},
		{"run --extended-status /k", "", 1, 35},
		{"run", "", 1, 1},
		{"", "13", 0, 35},
		{"fly", "", 1, 35},
		{"run --bogus /k", "", 1, 35},
		{"run --mem /k", "", 1, 35},      // not a number
		{"run /k --mem", "", 1, 35},      // no value
		{"run --mem lots /k", "", 1, 35}, //
		{"run --mem 512 /k", all, 0, 0},
		{"run --mem=512 /k", all, 0, 0},
		{"run -m=512 /k", since14, 1, 0},
		{"run --mem size=512 /k", since14, 1, 0},
		{"run --mem 1 --mem 2 /k", "", 1, 35},
		{"run --cpus num-cores=2 /k", since14, 1, 0},
		{"run /k --mem 512 --cpus 2", all, 0, 0},
		{"run /k /k", "", 1, 35},
		{"run --no-rng --no-rng /k", all, 0, 0},
		{"run --name n /k", "15Q2", 1, 35},
		{"run --no-pmu /k", "15Q2", 1, 35},
		{"run --no-i8042 /k", "", 1, 35}, // x86-64 only
		{"run --split-irqchip /k", "13", 0, 35},
		{"run --gdb 1 /k", since14, 1, 0},
		{"run --gdb 1 --cpus 2 /k", "", 1, 1},
		{"run --disk /d --rwdisk /d /k", all, 0, 0},
		{"run --disk /d,sparse=false /k", all, 0, 0},
		{"run --block path=/d,ro /k", since14, 1, 0},
		{"run --block /d,ro=true /k", since14, 1, 0},
		{"run --block ro,path=/d /k", "", 1, 35},
		{"run --block path='/a,b' /k", since14, 1, 0},
		{`run --block path="/a,b",ro /k`, since14, 1, 0},
		{"run --block path='/a /k", "", 1, 35},
		{"run --block ro /k", since14, 1, 0}, // the first key may be omitted: a disk named ro
		{"run --block path=/d,ro,ro /k", "", 1, 35},
		{"run --block path=/d,ro=yes /k", "", 1, 35},
		{"run --block path=/d,colour=red /k", "", 1, 35},
		{"run --block sparse=true /k", "", 1, 35}, // no path
		{"run --block path=/d,lock=false /k", "15Q1 15Q2", 1, 35},
		{"run --block path=/d,o_direct=true,block_size=4096 /k", since14, 1, 0},
		{"run --rwroot /d --root /d /k", "", 1, 1},
		{"run --tap-name t /k", all, 0, 0},
		{"run --tap-fd 5 /k", all, 0, 0},
		{"run --net tap-name=t /k", since14, 1, 0},
		{"run --net tap-fd=5,mac=02:00:00:00:00:01 /k", since14, 1, 0},
		{"run --net tap-fd=5,tap-name=t /k", "", 1, 35},
		{"run --net mac=02:00:00:00:00:01 /k", "", 1, 35},
		{"run --net tap-name=t,mac=lots /k", "", 1, 35},
		{"run --host-ip 1.2.3.4 --netmask 255.0.0.0 --mac 02:00:00:00:00:01 /k", all, 0, 0},
		{"run --host_ip 1.2.3.4 --netmask 255.0.0.0 --mac 02:00:00:00:00:01 /k", all, 0, 0},
		{"run --mac 02:00:00:00:00:01 /k", "", 1, 1},
		{"run --serial type=file,path=/c,hardware=virtio-console,num=1,console=true /k", all, 0, 0},
		{"run --serial type=sink --serial type=stdout /k", "", 1, 1}, // both are serial port 1
		{"run --serial type=sink,console=true --serial type=sink,num=2,console=true /k", since14, 1, 0},
		{"run --serial type=sink,hardware=virtio-console,earlycon=true /k", "", 1, 1},
		{"run --serial type=carrier-pigeon /k", "", 1, 35},
		{"run --serial type=sink,hardware=debugcon /k", since14, 1, 0},
		{"run --serial type=sink,name=x /k", "14Q3 15 15Q1 15Q2", 1, 35},
		{"run --cid 5 /k", all, 0, 0},
		{"run --vsock 5 /k", since14, 1, 0},
		{"run --vsock cid=5 --cid 5 /k", "", 1, 1},
		{"run --hypervisor gunyah[device=/dev/gunyah] /k", since14, 1, 0},
		{"run --hypervisor halla /k", "", 1, 35},
		{"run --protected-vm --protected-vm-without-firmware /k", "", 1, 1},
		{"run --params -foo=bar /k", "13", 0, 35}, // split in two: the second part is the kernel
		{"run -p init=/sbin/init /k", all, 0, 0},
		{"run --pci mem=[start=1,size=2],cam=[start=3,size=4] /k", "15Q2", 1, 35},
		{"run --help", all, 0, 0},
		{"stop /s", all, 0, 0},
		{"sleepbtn /s", since14, 1, 0},
	} {
		for _, r := range Releases {
			want := tt.otherwise
			if r == Android13 {
				want = tt.on13
			}
			if strings.Contains(" "+tt.taken+" ", " "+string(r)+" ") {
				want = 0
			}
			_, err := Facts().Parse(r, strings.Fields(tt.words), func(string) bool { return true })
			got := 0
			var refusal *Refusal
			if errors.As(err, &refusal) {
				got = refusal.Status
			} else if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("Android %s: %s: exit status %d, want %d: %v", r, tt.words, got, want, err)
			}
		}
	}
}

func TestCmdline(t *testing.T) {
	for words, want := range map[string]string{
		"run /k":                                  "panic=-1 console=ttyS0",
		"run --params a --params panic=5 /k":      "panic=-1 console=ttyS0 a panic=5",
		"run --rwroot /d --params a --disk /d /k": "panic=-1 console=ttyS0 a root=/dev/vda rw",
		"run --block /d --block /d,root,ro --serial type=sink,hardware=virtio-console,console=true /k":          "panic=-1 console=hvc0 root=/dev/vdb ro",
		"run --serial type=sink,earlycon=true --serial type=sink,hardware=virtio-console,num=2,console=true /k": "panic=-1 console=hvc1 earlycon=uart8250,mmio,0x3f8",
	} {
		c, err := Facts().Parse(Android15, strings.Fields(words), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Machine.Cmdline(Android15); got != want {
			t.Errorf("%s: %q, want %q", words, got, want)
		}
	}
	c, err := Facts().Parse(Android13, strings.Fields("run --rwroot /d --params a /k"), func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Machine.Cmdline(Android13), "panic=-1 console=ttyS0 root=/dev/vda rw a"; got != want {
		t.Errorf("Android 13: %q, want %q", got, want)
	}
}

// TestHelp checks that help lists the flags of each release.
func TestHelp(t *testing.T) {
	for _, r := range Releases {
		help := Facts().Help(r, "run")
		for _, name := range regexp.MustCompile(`--[a-z0-9_-]+`).FindAllString(help, -1) {
			if _, known := Facts().Find(r, strings.ReplaceAll(name, "_", "-")); !known && name != "--help" {
				t.Errorf("Android %s: help tells of %s", r, name)
			}
		}
		for name, first := range map[string]Release{"--disk": Android13, "--block": Android14, "--hypervisor": Android14, "--name": Android15QPR2} {
			listed := strings.Contains(help, name+" ") || strings.Contains(help, name+"\n")
			if listed != r.AtLeast(first) {
				t.Errorf("Android %s: %s listed: %t", r, name, listed)
			}
		}
	}
}
