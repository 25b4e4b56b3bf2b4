package androidtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// modules is where root managers keep modules; what is installed waits in a folder beside it for
// the next boot.
const (
	modules       = "/data/adb/modules"
	modulesUpdate = "/data/adb/modules_update"
)

// A manager is a root manager as far as modules go.
type manager struct {
	dir           string   // its own, which holds busybox and its programs
	path          string   // added to $PATH
	env           []string // for every script
	install       []string // for installation beside that
	ownFolder     bool     // scripts run in their module's folder
	moduleID      string   // variable that names the module
	bootCompleted bool     // it has boot-completed.sh and post-mount.sh, and refuses an installation before the phone has started
	carries       []string // what of an old version's marks the new one keeps
	postFSData    time.Duration
}

var managers = map[Superuser]manager{
	Magisk: {dir: "/data/adb/magisk", path: "/debug_ramdisk", carries: []string{"disable"}, postFSData: 35 * time.Second,
		install: []string{"MAGISK_VER=28.1", "MAGISK_VER_CODE=28100"}},
	KernelSU: {dir: "/data/adb/ksu/bin", path: "/data/adb/ksu/bin", ownFolder: true, moduleID: "KSU_MODULE", bootCompleted: true, carries: []string{"disable", "remove"},
		env:     []string{"KSU=true", "KSU_VER=v3.1.0", "KSU_VER_CODE=32302", "KSU_KERNEL_VER_CODE=32302", "KSU_UAPI_VER=1", "KSU_RUNTIME_MODE=gki"},
		install: []string{"MAGISK_VER=v25.2", "MAGISK_VER_CODE=25200"}},
	APatch: {dir: "/data/adb/ap/bin", path: "/data/adb/ap/bin", ownFolder: true, moduleID: "AP_MODULE", bootCompleted: true, carries: []string{"disable", "remove"},
		env: []string{"APATCH=true", "APATCH_VER=11142", "APATCH_VER_CODE=11142"}},
}

// furnishModules gives the phone its root manager's programs.
func (p *Phone) furnishModules() {
	p.t.Helper()
	m, ok := managers[p.superuser]
	if !ok {
		return // a phone that has none
	}
	for _, dir := range []string{m.dir, modules, modulesUpdate} {
		if err := os.MkdirAll(p.File(dir), 0o755); err != nil {
			p.t.Fatal(err)
		}
	}
	p.copy(find(p.t, "busybox"), strings.TrimPrefix(m.dir, "/")+"/busybox")
	p.put(m.dir+"/util_functions.sh", []byte(utilFunctions))
}

// utilFunctions is the part of Magisk's util_functions.sh, and of the installers that KernelSU and
// APatch have made of it, that installs a module's archive.
const utilFunctions = `
ui_print() { echo "$1"; }
abort() { ui_print "$1"; rm -rf "$MODPATH"; exit 1; }
install_module() {
	TMPDIR=/dev/tmp; rm -rf $TMPDIR; mkdir -p $TMPDIR
	unzip -o "$ZIPFILE" module.prop -d $TMPDIR >&2 || abort "! Unable to extract zip file!"
	MODID=$(sed -n 's/^id=//p' $TMPDIR/module.prop)
	MODPATH=/data/adb/modules_update/$MODID
	rm -rf "$MODPATH"; mkdir -p "$MODPATH"
	unzip -o "$ZIPFILE" customize.sh -d "$MODPATH" >&2
	if ! grep -q '^SKIPUNZIP=1$' "$MODPATH/customize.sh" 2>/dev/null; then
		ui_print "- Extracting module files"
		unzip -o "$ZIPFILE" -x 'META-INF/*' -d "$MODPATH" >&2
	fi
	[ -f "$MODPATH/customize.sh" ] && . "$MODPATH/customize.sh"
	mkdir -p "/data/adb/modules/$MODID"; touch "/data/adb/modules/$MODID/update"
	rm -rf "/data/adb/modules/$MODID/remove"
	cp -f "$MODPATH/module.prop" "/data/adb/modules/$MODID/module.prop"
	rm -f "$MODPATH/customize.sh"
	ui_print "- Done"
}
`

// InstallModule has the root manager install an archive that is on the phone, as its app does. The
// error says what its installer said.
func (p *Phone) InstallModule(archive string) (said string, err error) {
	p.t.Helper()
	m, ok := managers[p.superuser]
	switch {
	case !ok:
		return "", fmt.Errorf("%s has no modules", p.superuser)
	case m.bootCompleted && p.prop("sys.boot_completed") != "1":
		return "", fmt.Errorf("install %s: Android is still starting", archive)
	case m.bootCompleted:
		if err := p.metamoduleBlocks(archive); err != nil {
			return "", err
		}
	}
	// KernelSU and APatch read customize.sh by themselves; Magisk runs what the archive brings for
	// that.
	script := `. ` + m.dir + `/util_functions.sh; OUTFD=1 ZIPFILE=` + archive + `; install_module`
	if p.superuser == Magisk {
		script = `unzip -p ` + archive + ` META-INF/com/google/android/update-binary >/dev/update-binary && sh /dev/update-binary dummy 1 ` + archive
	}
	command := p.script(p.t.Context(), m, "", "", append(m.install, "BOOTMODE=true", "ARCH="+architectures[p.prop("ro.product.cpu.abi")], "API="+p.prop("ro.build.version.sdk")), "-c", script)
	out, err := command.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("install %s: %w: %s", archive, err, out)
	}
	return string(out), nil
}

// architectures are installers' names of what ro.product.cpu.abi says.
var architectures = map[string]string{"arm64-v8a": "arm64", "x86_64": "x64"}

// metamoduleBlocks refuses a module while the metamodule waits for a boot or is switched off.
func (p *Phone) metamoduleBlocks(archive string) error {
	meta := p.metamodule()
	for _, mark := range []string{"update", "disable", "remove"} {
		if meta != "" && p.exists(filepath.Join(modules, meta, mark)) {
			return fmt.Errorf("install %s: the metamodule is marked %s: restart the phone first", archive, mark)
		}
	}
	return nil
}

// metamodule is the module that mounts the folders of the others, "" where there is none.
func (p *Phone) metamodule() string {
	p.t.Helper()
	for _, id := range p.names(modules) {
		text, _ := os.ReadFile(p.File(filepath.Join(modules, id, "module.prop")))
		if strings.Contains("\n"+string(text), "\nmetamodule=1\n") {
			return id
		}
	}
	return ""
}

func (p *Phone) prop(name string) string {
	text, _ := os.ReadFile(p.path("props/" + name))
	return strings.TrimSpace(string(text))
}

// script returns a command of the manager's busybox, in standalone mode, where its own applets come
// before every program: sh with arguments, for a module or, where that is "", for none. dir is the
// script's folder, "" for a script that is no file.
func (p *Phone) script(ctx context.Context, m manager, module, dir string, env []string, args ...string) *exec.Cmd {
	argv := append([]string{m.dir + "/busybox", "sh"}, args...)
	if m.ownFolder && dir != "" {
		argv = append([]string{"/usr/bin/env", "--chdir", dir}, argv...)
	}
	command := p.Command(ctx, argv...)
	command.Env = append([]string{"ASH_STANDALONE=1", "PATH=" + shellPath + ":" + m.path, "ANDROID_ROOT=/system", "ANDROID_DATA=/data"}, append(m.env, env...)...)
	if m.moduleID != "" && module != "" {
		command.Env = append(command.Env, m.moduleID+"="+module)
	}
	return command
}

// Ash runs a command as a script of the phone's root manager does, and returns what it prints.
func (p *Phone) Ash(script string) string {
	p.t.Helper()
	return p.output(p.script(p.t.Context(), managers[p.superuser], "", "", nil, "-euc", script), script)
}

// Su runs a command by the phone's su, from a shell that belongs to the user shell, as `adb shell`
// does. What stands in words is quoted once.
func (p *Phone) Su(words ...string) (stdout, stderr string, status int) {
	p.t.Helper()
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	command := p.Command(p.t.Context(), shell, "-c", strings.Join(append([]string{"su"}, quoted...), " "))
	command.Args = append([]string{command.Args[0], "--setuid", fmt.Sprint(shellUser), "--setgid", fmt.Sprint(shellUser)}, command.Args[1:]...)
	command.SysProcAttr = p.newGroup(0).attributes()
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil && command.ProcessState == nil {
		p.t.Fatal(err)
	}
	return out.String(), said.String(), command.ProcessState.ExitCode()
}

// Reboot switches the phone off and on: every process ends at once, the network is made anew, the
// root manager takes on what was installed and runs the scripts of its modules, and Android has
// started. In safe mode, every module is switched off instead. What was connected to the phone or
// listened in its internet is gone.
func (p *Phone) Reboot(safeMode bool) {
	p.t.Helper()
	p.powerOff()
	p.boot(safeMode)
}

// boot starts the phone.
func (p *Phone) boot(safeMode bool) {
	p.t.Helper()
	p.SetProp("sys.boot_completed", "0")
	p.powerOn()
	m, managed := managers[p.superuser]
	if managed && safeMode {
		for _, id := range p.names(modules) {
			p.DisableModule(id)
		}
	} else if managed {
		p.uninstall(m)
		p.update(m)
		p.stages(m)
	}
	p.SetProp("sys.boot_completed", "1")
	if managed && !safeMode && m.bootCompleted {
		p.stage(m, "boot-completed", false)
	}
}

// update takes on what was installed: an old version's folder goes whole.
func (p *Phone) update(m manager) {
	p.t.Helper()
	for _, id := range p.names(modulesUpdate) {
		from, to := filepath.Join(p.File(modulesUpdate), id), filepath.Join(p.File(modules), id)
		for _, mark := range m.carries {
			if _, err := os.Stat(filepath.Join(to, mark)); err == nil {
				p.put(filepath.Join(modulesUpdate, id, mark), nil)
			}
		}
		if err := errors.Join(os.RemoveAll(to), os.Rename(from, to)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// names are what is in a folder, in its own order.
func (p *Phone) names(dir string) []string {
	p.t.Helper()
	f, err := os.Open(p.File(dir))
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		p.t.Fatal(err)
	}
	return names
}

// uninstall runs uninstall.sh of modules that were removed, and removes them.
func (p *Phone) uninstall(m manager) {
	p.t.Helper()
	for _, id := range p.names(modules) {
		dir := filepath.Join(modules, id)
		if !p.exists(dir + "/remove") {
			continue
		}
		if meta := p.metamodule(); m.bootCompleted && meta != "" && p.exists(filepath.Join(modules, meta, "metauninstall.sh")) {
			p.runScript(m, meta, filepath.Join(modules, meta, "metauninstall.sh"), id)
		}
		if p.exists(dir + "/uninstall.sh") {
			p.runScript(m, id, dir+"/uninstall.sh")
		}
		if err := os.RemoveAll(p.File(dir)); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *Phone) exists(path string) bool {
	_, err := os.Stat(p.File(path))
	return err == nil
}

// stages are what comes before Android has started.
func (p *Phone) stages(m manager) {
	p.t.Helper()
	p.stage(m, "post-fs-data", true)
	if m.bootCompleted {
		if meta := p.metamodule(); meta != "" && p.exists(filepath.Join(modules, meta, "metamount.sh")) {
			p.runScript(m, meta, filepath.Join(modules, meta, "metamount.sh"))
		}
		p.stage(m, "post-mount", true)
	}
	p.stage(m, "service", false)
}

// stage runs the scripts in NAME.d that may be executed, then NAME.sh of every module that is on;
// blocking: one after the other, each for as long as the manager waits.
func (p *Phone) stage(m manager, name string, blocking bool) {
	p.t.Helper()
	run := func(id, path string) { p.startScript(m, id, path) }
	if blocking {
		run = func(id, path string) { p.runScript(m, id, path) }
	}
	common := "/data/adb/" + name + ".d"
	if p.exists(common) {
		for _, file := range p.names(common) {
			path := filepath.Join(common, file)
			if info, err := os.Stat(p.File(path)); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				run("", path)
			}
		}
	}
	for _, id := range p.names(modules) {
		dir := filepath.Join(modules, id)
		if script := dir + "/" + name + ".sh"; !p.exists(dir+"/disable") && !p.exists(dir+"/remove") && p.exists(script) {
			run(id, script)
		}
	}
}

// runScript runs a script and waits for it, where the manager's patience is bounded for no longer
// than that.
func (p *Phone) runScript(m manager, id, path string, args ...string) {
	p.t.Helper()
	ended := p.startScript(m, id, path, args...)
	var late <-chan time.Time
	if m.postFSData > 0 {
		late = time.After(m.postFSData)
	}
	select {
	case <-ended:
	case <-late:
	}
}

// startScript starts a script. The channel is closed at its end.
func (p *Phone) startScript(m manager, id, path string, args ...string) <-chan struct{} {
	p.t.Helper()
	command := p.script(context.Background(), m, id, filepath.Dir(path), nil, append([]string{path}, args...)...)
	if err := command.Start(); err != nil {
		p.t.Fatalf("start %s: %v", path, err)
	}
	ended := make(chan struct{})
	go func() {
		command.Wait() // its status is not needed; it ends with the phone at the latest
		close(ended)
	}()
	return ended
}

// DisableModule marks a module to be left alone from the next boot on, as its manager's app does.
func (p *Phone) DisableModule(id string) { p.put(filepath.Join(modules, id, "disable"), nil) }

// RemoveModule marks a module to be removed at the next boot.
func (p *Phone) RemoveModule(id string) { p.put(filepath.Join(modules, id, "remove"), nil) }
