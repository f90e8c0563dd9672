package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
)

// Sink gets a copy of each record. Its errors don't hold the record.
type Sink interface {
	// Send takes a line without its newline, and returns when it has it.
	Send(ctx context.Context, line []byte) error
	// String names the sink for people.
	String() string
}

// forward gives lines to all sinks. What is not taken is not sent again: the log has it.
func (l *Log) forward(ctx context.Context, lines [][]byte) error {
	var errs []error
	for _, s := range l.o.Sinks {
		for _, line := range lines {
			if err := s.Send(ctx, line); err != nil {
				errs = append(errs, fmt.Errorf("forward to %s: %w", s, err))
				break
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindDegraded, "see audit.forward; what was not forwarded is not sent again",
		"the audit record is written and not forwarded: %w", errors.Join(errs...))
}

// Syslog sends to the syslog of this host, or to the one behind a socket. Socket is the
// path of that, or empty.
type Syslog struct{ Socket string }

// String implements Sink.
func (s Syslog) String() string {
	if s.Socket != "" {
		return "syslog:" + s.Socket
	}
	return "syslog"
}

// Send implements Sink. The facility is auth, the severity notice, the tag pgmedic-audit.
func (s Syslog) Send(_ context.Context, line []byte) error {
	network, address := "", ""
	if s.Socket != "" {
		network, address = "unixgram", s.Socket
	}
	w, err := syslog.Dial(network, address, syslog.LOG_AUTH|syslog.LOG_NOTICE, "pgmedic-audit")
	if err != nil {
		return fmt.Errorf("connect to syslog: %w", err)
	}
	if err := errors.Join(w.Notice(string(line)), w.Close()); err != nil {
		return fmt.Errorf("send to syslog: %w", err)
	}
	return nil
}

// Stream writes to a stream of this process, such as standard error.
type Stream struct {
	Name string
	To   io.Writer
}

// String implements Sink.
func (s Stream) String() string { return s.Name }

// Send implements Sink.
func (s Stream) Send(_ context.Context, line []byte) error {
	if _, err := s.To.Write(append(append([]byte(nil), line...), '\n')); err != nil {
		return fmt.Errorf("write to it: %w", err)
	}
	return nil
}

// File appends to a file, such as one of another host's file system.
type File struct{ Path string }

// String implements Sink.
func (f File) String() string { return "file:" + f.Path }

// Send implements Sink.
func (f File) Send(_ context.Context, line []byte) error {
	// A pipe that no program reads is an error, and not waited for.
	to, err := os.OpenFile(f.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	_, err = to.Write(append(append([]byte(nil), line...), '\n'))
	flushed := to.Sync()
	if errors.Is(flushed, unix.EINVAL) { // a pipe or a device, which nothing is flushed of
		flushed = nil
	}
	if err = errors.Join(err, flushed, to.Close()); err != nil {
		return fmt.Errorf("write to it: %w", err)
	}
	return nil
}
