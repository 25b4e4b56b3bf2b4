// Package durable writes files atomically and durably, and locks files.
//
// [WriteFile], and [Create] for content that arrives in parts, write a temporary file, set its
// mode, sync it, rename it and sync the folder. After a power cut, a full disk or SIGKILL at any
// moment, a reader finds the whole old file or the whole new file. After the call has returned, it
// finds the new file. A symbolic link at the path is replaced, not followed.
//
// The temporary file for DIR/NAME is DIR/.NAME.new-DIGITS. It is locked while its writer lives. The
// next writer of the same path, and [RemoveLeftovers], therefore remove only the files of killed
// writers.
//
// [TryLock] and [WaitLock] lock a file or folder (flock(2)). [TryProcessLock] uses a lock that
// names the process that holds it (fcntl(2), F_SETLK). The kernel releases both when the process
// ends, even if it is killed.
package durable
