package androidtest

import (
	"archive/zip"
	"os"
	"strings"
	"testing"
)

// archive writes a module's archive to the phone. Each of its scripts logs its environment to
// /data/adb/seen.
func archive(t *testing.T, p *Phone, id string, more map[string]string) string {
	t.Helper()
	const note = `{ echo "${0##*/} cwd=$PWD $(readlink /proc/self/exe | grep -c busybox) ip=$(type ip) KSU=$KSU APATCH=$APATCH id=$KSU_MODULE$AP_MODULE` +
		` MAGISK_VER_CODE=$MAGISK_VER_CODE standalone=$ASH_STANDALONE $(tail -n 1 /proc/self/cgroup) booted=$(getprop sys.boot_completed)"; } >>/data/adb/seen` + "\n"
	files := map[string]string{"module.prop": "id=" + id + "\nname=x\n", "META-INF/com/google/android/update-binary": "OUTFD=$2 ZIPFILE=$3\n. /data/adb/magisk/util_functions.sh\ninstall_module\nexit 0\n",
		"customize.sh": `echo "customize $MODPATH MAGISK_VER_CODE=$MAGISK_VER_CODE KSU=$KSU ARCH=$ARCH" >>/data/adb/seen` + "\n"}
	for _, name := range []string{"post-fs-data.sh", "post-mount.sh", "service.sh", "boot-completed.sh", "uninstall.sh"} {
		files[name] = "#!/system/bin/sh\n" + note
	}
	for name, text := range more {
		files[name] = text
	}
	path := "/data/local/tmp/" + id + ".zip"
	f, err := os.Create(p.File(path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	for name, text := range files {
		if text == "" {
			continue
		}
		entry, err := w.Create(name)
		if err == nil {
			_, err = entry.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestModules checks, for each root manager, which scripts run when, where, and with what
// environment.
func TestModules(t *testing.T) {
	for kind, c := range map[Superuser]struct{ environment, customize, scripts string }{
		Magisk:   {"cwd=/ 1 ip=ip is ip KSU= APATCH= id= MAGISK_VER_CODE= standalone=1 0::/ booted=", "MAGISK_VER_CODE=28100 KSU= ARCH=arm64", "post-fs-data service"},
		KernelSU: {"cwd=/data/adb/modules/m 1 ip=ip is ip KSU=true APATCH= id=m MAGISK_VER_CODE= standalone=1 0::/ booted=", "MAGISK_VER_CODE=25200 KSU=true ARCH=arm64", "post-fs-data post-mount service boot-completed"},
		APatch:   {"cwd=/data/adb/modules/m 1 ip=ip is ip KSU= APATCH=true id=m MAGISK_VER_CODE= standalone=1 0::/ booted=", "MAGISK_VER_CODE= KSU= ARCH=arm64", "post-fs-data post-mount service boot-completed"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			p := New(t, Options{Superuser: kind, InMemory: true})
			seen := func(awaited ...string) string {
				t.Helper()
				for _, name := range awaited {
					p.Eventually(name+" has run", func() bool {
						text, _ := os.ReadFile(p.File("/data/adb/seen"))
						return strings.Contains(string(text), name+".sh")
					})
				}
				text, _ := os.ReadFile(p.File("/data/adb/seen"))
				os.Remove(p.File("/data/adb/seen"))
				return string(text)
			}
			p.Shell(`mkdir -p /data/adb/service.d; cd /data/adb/service.d
				for f in runs lacks-its-bit; do echo "echo \$0 in \$PWD >>/data/adb/common" >$f.sh; done; chmod 755 runs.sh`)
			zip := archive(t, p, "m", nil)
			if _, err := p.InstallModule(zip); err != nil {
				t.Fatal(err)
			}
			if got, want := seen(), "customize /data/adb/modules_update/m "+c.customize+"\n"; got != want {
				t.Errorf("customize.sh: %q, want %q", got, want)
			}
			if got := p.Shell("cd /data/adb/modules/m; ls"); got != "module.prop\nupdate\n" {
				t.Errorf("until the next boot: %q", got)
			}

			p.Reboot(false)
			scripts := strings.Fields(c.scripts)
			ran := seen(scripts...)
			for _, name := range scripts {
				booted := "0"
				if name == "boot-completed" {
					booted = "1"
				}
				if want := name + ".sh " + c.environment + booted + "\n"; !strings.Contains(ran, want) && !(name == "service" && strings.Contains(ran, want[:len(want)-2])) {
					t.Errorf("boot: %q lacks %q", ran, want)
				}
			}
			if n := strings.Count(ran, "\n"); n != len(scripts) {
				t.Errorf("boot: %d scripts ran: %s", n, ran)
			}

			common := func() string { text, _ := os.ReadFile(p.File("/data/adb/common")); return string(text) }
			p.Eventually("the common script has run", func() bool { return common() != "" })
			in := map[bool]string{true: "/data/adb/service.d", false: "/"}[kind != Magisk]
			if want := "/data/adb/service.d/runs.sh in " + in + "\n"; common() != want {
				t.Errorf("common scripts: %q, want %q", common(), want)
			}

			// An update replaces the whole folder at the next boot, and changes nothing before.
			p.Shell("echo precious >/data/adb/modules/m/kept")
			if _, err := p.InstallModule(archive(t, p, "m", map[string]string{"post-fs-data.sh": ""})); err != nil {
				t.Fatal(err)
			}
			if !p.exists("/data/adb/modules/m/kept") || !p.exists("/data/adb/modules/m/service.sh") {
				t.Error("the update took effect at once")
			}
			seen()
			p.Reboot(false)
			if ran := seen(scripts[1:]...); p.exists("/data/adb/modules/m/kept") || strings.Contains(ran, "post-fs-data") {
				t.Errorf("updated: %s", ran)
			}

			p.DisableModule("m")
			p.Reboot(false)
			if _, err := p.InstallModule(archive(t, p, "m", nil)); err != nil {
				t.Fatal(err)
			}
			seen()
			p.Reboot(false)
			if ran := seen(); ran != "" || !p.exists("/data/adb/modules/m/disable") {
				t.Errorf("switched off, then updated: %s", ran)
			}

			p.Shell("rm /data/adb/modules/m/disable")
			p.Reboot(true)
			if ran := seen(); ran != "" || !p.exists("/data/adb/modules/m/disable") {
				t.Errorf("safe mode: %s", ran)
			}

			p.RemoveModule("m")
			p.Reboot(false)
			if ran := seen(); !strings.HasPrefix(ran, "uninstall.sh "+c.environment) || p.exists("/data/adb/modules/m") {
				t.Errorf("removed: %q", ran)
			}
		})
	}
}

// TestModulesRefused checks that KernelSU and APatch refuse to install before Android has booted,
// and while their metamodule waits for a boot.
func TestModulesRefused(t *testing.T) {
	for kind, refuses := range map[Superuser]bool{Magisk: false, KernelSU: true, APatch: true} {
		p := New(t, Options{Superuser: kind, StillBooting: true, InMemory: true})
		m := archive(t, p, "m", nil)
		if _, err := p.InstallModule(m); (err != nil) != refuses {
			t.Errorf("%s: before Android has started: %v", kind, err)
		}
		p.SetProp("sys.boot_completed", "1")
		if _, err := p.InstallModule(archive(t, p, "meta", map[string]string{"module.prop": "id=meta\nmetamodule=1\n"})); err != nil {
			t.Fatal(err)
		}
		if _, err := p.InstallModule(m); (err != nil) != refuses {
			t.Errorf("%s: with a metamodule that waits: %v", kind, err)
		}
		p.Reboot(false)
		if _, err := p.InstallModule(m); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
