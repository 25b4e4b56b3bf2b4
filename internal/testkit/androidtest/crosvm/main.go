// Command crosvm stands in for Android's program of that name in tests. It takes the real one's flags as strictly as
// that does, gives the machine the same devices by way of QEMU, holds a control socket of the same kind, and ends with
// the same exit statuses. A machine ends with it, however it is killed.
//
//	crosvm run [flags] KERNEL
//	crosvm stop|suspend|resume|powerbtn SOCKET
//	crosvm version
//
// Where KERNEL is a script of package lightguest in place of a kernel, the machine is that guest, without QEMU.
//
// CROSVM_DIALECT=old in the environment makes it a version of before 2023, which knows other flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Exit statuses of crosvm (src/crosvm/sys.rs, CommandStatus).
const (
	statusStopped          = 0
	statusFailed           = 1
	statusReset            = 32
	statusCrash            = 33
	statusPanic            = 34
	statusInvalidArguments = 35
)

// errArguments is wrapped by errors about the command line.
var errArguments = errors.New("invalid arguments")

func main() {
	status, err := perform(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "crosvm:", err)
		if errors.Is(err, errArguments) {
			status = statusInvalidArguments
		}
	}
	os.Exit(status)
}

func perform(args []string) (int, error) {
	if len(args) == 0 {
		return statusFailed, fmt.Errorf("%w: a command is needed: run, stop, suspend, resume, powerbtn, version", errArguments)
	}
	d := dialects[os.Getenv("CROSVM_DIALECT") == "old"]
	switch verb := args[0]; {
	case verb == "version":
		fmt.Println("crosvm 0.1.0 (stand-in on QEMU)")
		return 0, nil
	case verb == "run" && len(args) == 2 && args[1] == "--help":
		fmt.Print(d.help())
		return 0, nil
	case verb == "run":
		m, err := d.parse(args[1:])
		if err != nil {
			return statusInvalidArguments, err
		}
		return run(context.Background(), m)
	case requests[verb] != "" && len(args) == 2:
		if err := ask(args[1], requests[verb]); err != nil {
			return statusFailed, err
		}
		return 0, nil
	default:
		return statusFailed, fmt.Errorf("%w: unrecognized argument: %s", errArguments, verb)
	}
}
