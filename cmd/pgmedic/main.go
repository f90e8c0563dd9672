// Command pgmedic backs PostgreSQL up, proves that the backups restore,
// restores without risk, and reports on a server's health.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/pgmedic/pgmedic"
)

// version is set by the linker.
var version = "dev"

func main() {
	// A file that may not grow any more is an error of the write, and no reason
	// to die without a word.
	signal.Ignore(syscall.SIGXFSZ)
	ctx, stop := interruptible()
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: the working folder is gone:", err)
		os.Exit(exitCode(pgmedic.KindUsage))
	}
	a := &app{
		version: version, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		environ: os.Environ(), dir: dir, now: time.Now,
		stdoutWidth: func() int { return width(os.Stdout) }, stderrWidth: func() int { return width(os.Stderr) },
		stdinTTY:  term.IsTerminal(int(os.Stdin.Fd())),
		stdoutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		stderrTTY: term.IsTerminal(int(os.Stderr.Fd())),
	}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// width returns the columns of the terminal that f is, or 0 where it is none or
// does not say.
func width(f *os.File) int {
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// errInterrupted is what every error of an interrupted run comes down to.
var errInterrupted = pgmedic.Errorf(pgmedic.KindInterrupted, "", "interrupted")

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP ends.
// A second one ends the process at once; what that leaves behind is swept by
// the next run.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel(errInterrupted)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
