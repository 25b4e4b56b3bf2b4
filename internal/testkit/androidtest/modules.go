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

// Folders of modules. A module is installed to modulesUpdate and moved to modules at the next boot.
const (
	modules       = "/data/adb/modules"
	modulesUpdate = "/data/adb/modules_update"
)

// A manager describes how a root manager handles modules.
type manager struct {
	dir           string   // the manager's folder, with busybox and its programs
	path          string   // added to $PATH
	env           []string // for every script
	install       []string // additional, for installation
	ownFolder     bool     // scripts run in their module's folder
	moduleID      string   // environment variable with the module's ID
	bootCompleted bool     // it runs boot-completed.sh and post-mount.sh, and refuses to install before the phone has booted
	carries       []string // marks of an old version that an update keeps
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

// furnishModules installs the root manager's programs.
func (p *Phone) furnishModules() {
	p.t.Helper()
	m, ok := managers[p.superuser]
	if !ok {
		return // no root manager
	}
	for _, dir := range []string{m.dir, modules, modulesUpdate} {
		if err := os.MkdirAll(p.File(dir), 0o755); err != nil {
			p.t.Fatal(err)
		}
	}
	p.copy(find(p.t, "busybox"), strings.TrimPrefix(m.dir, "/")+"/busybox")
	p.put(m.dir+"/util_functions.sh", []byte(utilFunctions))
}

// utilFunctions is the part of Magisk's util_functions.sh that installs a module's archive.
// KernelSU and APatch derive their installers from it.
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

// InstallModule makes the root manager install an archive that is on the phone, as its app does. It
// returns the installer's output, which the error includes.
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
	// KernelSU and APatch source customize.sh; Magisk runs the archive's update-binary.
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

// architectures maps values of ro.product.cpu.abi to the installers' names.
var architectures = map[string]string{"arm64-v8a": "arm64", "x86_64": "x64"}

// metamoduleBlocks returns an error while the metamodule waits for a boot or is disabled.
func (p *Phone) metamoduleBlocks(archive string) error {
	meta := p.metamodule()
	for _, mark := range []string{"update", "disable", "remove"} {
		if meta != "" && p.exists(filepath.Join(modules, meta, mark)) {
			return fmt.Errorf("install %s: the metamodule is marked %s: restart the phone first", archive, mark)
		}
	}
	return nil
}

// metamodule returns the ID of the module that mounts the other modules' folders, or "" if such a
// module is not installed.
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

// script returns a command that runs the manager's busybox sh with these arguments. Busybox is in
// standalone mode: its applets precede all other programs. module is "" for a script of no module;
// dir is the script's folder, or "" if the script is not a file.
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

// Ash runs a script in the root manager's shell, and returns its standard output.
func (p *Phone) Ash(script string) string {
	p.t.Helper()
	return p.output(p.script(p.t.Context(), managers[p.superuser], "", "", nil, "-euc", script), script)
}

// Su runs su in the phone with these words, each quoted, from a shell of the user shell, like `adb
// shell`.
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

// Reboot restarts the phone. It kills every process, re-creates the network, makes the root manager
// apply installed updates and run the modules' scripts, and completes Android's boot. In safe mode
// it disables every module instead. Connections to the phone and listeners in its internet are
// lost.
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

// update moves installed modules to modules. It replaces the whole folder of an old version.
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

// names returns the names in a folder of /data, in directory order.
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

// uninstall runs uninstall.sh of each module that is marked for removal, and removes the module.
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

// stages runs the scripts that precede the end of Android's boot.
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

// stage runs the executable scripts in NAME.d, then NAME.sh of every enabled module. If blocking is
// set, it waits for each script, up to the manager's time limit.
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

// runScript runs a script and waits for its end, or until the manager's time limit if it has one.
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

// startScript starts a script. It closes the channel when the script ends.
func (p *Phone) startScript(m manager, id, path string, args ...string) <-chan struct{} {
	p.t.Helper()
	command := p.script(context.Background(), m, id, filepath.Dir(path), nil, append([]string{path}, args...)...)
	if err := command.Start(); err != nil {
		p.t.Fatalf("start %s: %v", path, err)
	}
	ended := make(chan struct{})
	go func() {
		command.Wait() // its status does not matter; it ends with the phone at the latest
		close(ended)
	}()
	return ended
}

// DisableModule disables a module from the next boot on, as the root manager's app does.
func (p *Phone) DisableModule(id string) { p.put(filepath.Join(modules, id, "disable"), nil) }

// RemoveModule marks a module to be removed at the next boot.
func (p *Phone) RemoveModule(id string) { p.put(filepath.Join(modules, id, "remove"), nil) }
