package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Begin has the system begin to write a range of a file to its disk, and does not wait for that:
// a Sync of the file, which is needed all the same, then finds less to do.
func Begin(f *os.File, offset, n int64) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), offset, n, unix.SYNC_FILE_RANGE_WRITE) // Sync says what fails
	})
}
