// Command pgmedic backs PostgreSQL up, streams its WAL, proves that the backups restore
// and that any moment comes back, restores without risk, and reports on a server's health.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/pgmedic/pgmedic"
)

// version is set by the linker: the version, and after a space the commit.
var version = "dev"

func main() {
	// A file that may not grow any more is an error of the write, and no reason
	// to die without a word.
	signal.Ignore(syscall.SIGXFSZ)
	ctx, interrupt, stop := interruptible()
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: the working folder is gone:", err)
		os.Exit(restoreCode(os.Args[1:], exitCode(pgmedic.KindUsage)))
	}
	release, commit, _ := strings.Cut(version, " ")
	e := &env{
		version: release, commit: commit, stdin: os.Stdin, stdout: printed{os.Stdout, interrupt}, stderr: printed{os.Stderr, interrupt},
		environ: os.Environ(), dir: dir, now: time.Now,
		stdoutWidth: func() int { return width(os.Stdout) }, stderrWidth: func() int { return width(os.Stderr) },
		stdinTTY:  term.IsTerminal(int(os.Stdin.Fd())),
		stdoutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		stderrTTY: term.IsTerminal(int(os.Stderr.Fd())),
	}
	code := run(ctx, e, os.Args[1:])
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

// printed is one of the two files that are printed to. Where it is a pipe and its
// reader goes away, that is an interrupt like any other. It is a file to whoever
// asks whether it is a terminal; the methods of a file that write are its own, so
// that none goes past Write.
type printed struct {
	*os.File
	gone func()
}

// Write implements io.Writer.
func (p printed) Write(b []byte) (int, error) {
	n, err := p.File.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		p.gone()
	}
	return n, err
}

// WriteString implements io.StringWriter.
func (p printed) WriteString(s string) (int, error) { return p.Write([]byte(s)) }

// ReadFrom implements io.ReaderFrom.
func (p printed) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{p}, r) //nolint:wrapcheck // a stream's own
}

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP ends,
// and a function that does, too. A second signal ends the process at once; what
// that leaves behind is swept by the next run.
func interruptible() (_ context.Context, interrupt, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	// Whoever listens for it is not ended by it: the write fails instead. Were it
	// ignored, the client programs would ignore it, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
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
	return ctx, func() { cancel(errInterrupted) }, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
