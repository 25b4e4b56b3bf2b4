package crosvm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// requests maps verbs to the names of their VmRequest (vm_control/src/lib.rs). requestOf handles
// suspend, resume and the balloon.
var requests = map[string]string{"stop": "Exit", "powerbtn": "Powerbtn", "sleepbtn": "Sleepbtn", "gpe": "Gpe", "make_rt": "MakeRT"}

// requestOf returns the request that a verb's client sends, and the socket's path. The request is
// nil if the arguments are invalid.
func requestOf(r crosvmcli.Release, verb string, args []string) (request any, socket string) {
	if len(args) > 0 {
		socket = args[len(args)-1]
	}
	switch verb {
	case "suspend", "resume":
		name := strings.ToUpper(verb[:1]) + verb[1:]
		switch {
		case !r.AtLeast(crosvmcli.Android14QPR2):
		case len(args) > 1 && args[0] == "--full":
			name += "Vm"
		default:
			name += "Vcpus"
		}
		return name, socket
	case "balloon":
		if len(args) < 2 {
			return nil, ""
		}
		size, err := strconv.ParseUint(args[len(args)-2], 10, 64)
		if err != nil {
			return nil, ""
		}
		return map[string]any{"BalloonCommand": map[string]any{"Adjust": map[string]any{"num_bytes": size}}}, socket
	case "balloon_stats":
		return map[string]any{"BalloonCommand": map[string]any{"Stats": map[string]any{}}}, socket
	}
	if name := requests[verb]; name != "" {
		return name, socket
	}
	return nil, ""
}

// client sends a verb's request to the machine at a socket, and returns the exit status.
func client(r crosvmcli.Release, l *logger, verb string, args []string) int {
	old := r == crosvmcli.Android13
	request, socket := requestOf(r, verb, args)
	if request == nil || socket == "" {
		l.refuse(&crosvmcli.Refusal{Status: map[bool]int{true: 1, false: 35}[old], Text: "Required positional arguments not provided"})
		return map[bool]int{true: 1, false: 35}[old]
	}
	if r == crosvmcli.Android13 && verb == "stop" {
		socket = args[0]
	}
	answer, err := ask(socket, request)
	if err != nil {
		if old {
			l.say("ERROR", "src::main", err.Error())
		} else {
			fmt.Fprintln(os.Stderr, err)
			l.say("ERROR", "crosvm", "exiting with error 1: "+verb+" subcommand failed")
		}
		return 1
	}
	complaint := describe(answer)
	if verb == "balloon_stats" {
		var pretty any
		json.Unmarshal(answer, &pretty) // ask has validated it
		text, _ := json.MarshalIndent(pretty, "", "  ")
		fmt.Println(string(text))
		if _, stats := pretty.(map[string]any)["BalloonStats"]; stats {
			complaint = ""
		}
	}
	switch {
	case complaint == "":
		return 0
	case old:
		l.say("ERROR", "src::main", "request response was "+complaint)
		return 0
	}
	fmt.Println("unexpected response:", complaint)
	l.say("ERROR", "crosvm", "exiting with error 1: "+verb+" subcommand failed")
	return 1
}

// describe returns the text of an answer, or "" for Ok.
func describe(answer json.RawMessage) string {
	var e struct {
		Err       *int
		ErrString string
	}
	switch {
	case string(answer) == `"Ok"`:
		return ""
	case json.Unmarshal(answer, &e) == nil && e.Err != nil:
		return "error: " + osError(syscall.Errno(*e.Err))
	case e.ErrString != "":
		return "error: " + e.ErrString
	}
	return string(answer)
}

// ask sends a request and waits for the answer without a time limit.
func ask(path string, request any) (json.RawMessage, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("failed to connect to socket at '%s': %s", path, osError(err))
	}
	defer conn.Close()
	packet, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, fmt.Errorf("failed to send request to socket at '%s': %s", path, osError(err))
	}
	reply := make([]byte, 64<<10)
	n, err := conn.Read(reply)
	if err != nil || n == 0 || !json.Valid(reply[:n]) {
		return nil, fmt.Errorf("failed to receive response from socket at '%s'", path)
	}
	return reply[:n], nil
}

// A control is the socket at which a machine receives requests: packets of JSON.
type control struct {
	listener *net.UnixListener // nil: the machine has no socket
}

var inherited = regexp.MustCompile(`^/proc/self/fd/(\d+)$`)

// listen creates the control socket. If path is a folder, listen chooses a name in it. If path
// names an inherited descriptor, listen uses that listening socket.
func listen(path string) (*control, error) {
	if path == "" {
		return &control{}, nil
	}
	if fd := inherited.FindStringSubmatch(path); fd != nil {
		n, _ := strconv.Atoi(fd[1])
		l, err := net.FileListener(os.NewFile(uintptr(n), path))
		if err != nil {
			return nil, because(err, "failed to create control server")
		}
		unix, ok := l.(*net.UnixListener)
		if !ok {
			return nil, because(syscall.ENOTSOCK, "failed to create control server")
		}
		return &control{unix}, nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, fmt.Sprintf("crosvm-%d.sock", os.Getpid()))
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, because(err, "failed to create control server")
	}
	return &control{l}, nil
}

// Close removes the socket, as crosvm does when it is not killed.
func (c *control) Close() {
	if c.listener != nil {
		c.listener.Close()
	}
}

// A controlled is a machine that handles requests.
type controlled interface {
	quit(context.Context)
	pause(context.Context) error
	resume(context.Context) error
}

const controlTimeout = 10 * time.Second

func (c *control) serve(vm controlled, balloon bool) {
	if c.listener == nil {
		return
	}
	var inflated uint64
	for {
		conn, err := c.listener.AcceptUnix()
		if err != nil {
			return
		}
		answer(conn, vm, balloon, &inflated)
	}
}

func answer(conn *net.UnixConn, vm controlled, balloon bool, inflated *uint64) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(controlTimeout))
	packet := make([]byte, 4096)
	n, err := conn.Read(packet)
	if err != nil {
		return // a client tested whether a process listens
	}
	var request any
	if err := json.Unmarshal(packet[:n], &request); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	reply := func(v any) {
		text, _ := json.Marshal(v) // strings and numbers always encode
		conn.Write(text)
	}
	result := func(err error) {
		if err != nil {
			reply(map[string]any{"ErrString": err.Error()})
			return
		}
		reply("Ok")
	}
	unsupported := map[string]any{"Err": int(syscall.ENOTSUP)}
	switch r := request.(type) {
	case string:
		switch r {
		case "Exit":
			reply("Ok") // before the exit: the machine cannot answer after it
			vm.quit(ctx)
		case "Suspend", "SuspendVcpus", "SuspendVm":
			result(vm.pause(ctx))
		case "Resume", "ResumeVcpus", "ResumeVm":
			result(vm.resume(ctx))
		case "MakeRT":
			reply("Ok")
		default: // buttons need ACPI, which arm64 lacks: the device is None in aarch64/src/lib.rs
			reply(unsupported)
		}
	case map[string]any:
		command, _ := r["BalloonCommand"].(map[string]any)
		if command == nil || !balloon {
			reply(unsupported)
			return
		}
		if adjust, ok := command["Adjust"].(map[string]any); ok {
			size, _ := adjust["num_bytes"].(float64)
			*inflated = uint64(size)
			reply("Ok")
			return
		}
		reply(map[string]any{"BalloonStats": map[string]any{"balloon_actual": *inflated, "stats": map[string]any{}}})
	}
}
