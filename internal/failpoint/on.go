//go:build failpoint

package failpoint

import (
	"context"
	"os"
	"strings"
	"syscall"
	"time"
)

// Variable names the place at which the program is to end: "kill:name" kills it
// there, as kill -9 does; "interrupt:name" sends it a SIGINT and goes on once
// that has arrived.
const Variable = "PGMEDIC_FAILPOINT"

// Hit is a named place.
func Hit(ctx context.Context, name string) {
	how, where, _ := strings.Cut(os.Getenv(Variable), ":")
	if where != name {
		return
	}
	switch how {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it ends us at once, but not before it returns
	case "interrupt":
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute): // a context that no interrupt ends
		}
	}
}
