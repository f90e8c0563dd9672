package postgres

import (
	"syscall"
	"time"
)

const pacesReads = true

// sleepThread keeps the thread asleep, and not the goroutine alone: the runtime's own
// timers wait for the network, too, and would be woken by each send.
func sleepThread(d time.Duration) {
	t := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&t, nil) // less is fine
}
