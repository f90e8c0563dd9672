package cluster

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// LogPrefix is a log_line_prefix with which ReadLog finds times and error codes, too.
const LogPrefix = "%n %e "

// Log is what the log of a server says of its recovery. It is in English (lc_messages is
// C), and its lines begin with LogPrefix or nothing.
type Log struct {
	// Redone is where the last record begins that was replayed: 0 where there was none.
	Redone wal.LSN
	// RedoneAt and ReadyAt are when the last record was replayed, and when the server took
	// connections: zero where it did not, or where the lines have no times.
	RedoneAt, ReadyAt time.Time
	// FatalCode is the SQLSTATE of the first error that ended a process, with LogPrefix.
	FatalCode string
	// Program is the first error of restore_command: what it writes behind "error: ".
	Program string

	nothing bool // there was nothing to replay
	ready   bool
	fatal   string
}

var (
	prefixed  = regexp.MustCompile(`^([0-9]+)\.([0-9]{3}) ([0-9A-Z]{5}) `)
	redoDone  = regexp.MustCompile(`^LOG: +redo done at ([0-9A-F]+/[0-9A-F]+)`)
	fatalLine = regexp.MustCompile(`(?:^|\s)(?:FATAL|PANIC): +(.*)`)
)

// ReadLog finds in a log what a recovery came to.
func ReadLog(log string) (l Log) {
	for line := range strings.Lines(log) {
		l.read(strings.TrimRight(line, "\n"))
	}
	return l
}

// read finds it in one line.
func (l *Log) read(line string) {
	code, at := "", time.Time{}
	if m := prefixed.FindStringSubmatch(line); m != nil {
		milliseconds, _ := strconv.ParseInt(m[1]+m[2], 10, 64) // which the expression has matched
		line, code, at = line[len(m[0]):], m[3], time.UnixMilli(milliseconds)
	}
	switch {
	case redoDone.MatchString(line):
		l.Redone, _ = wal.ParseLSN(redoDone.FindStringSubmatch(line)[1]) // which the expression has matched
		l.RedoneAt = at
	case strings.HasPrefix(line, "LOG:  redo is not required"):
		l.nothing, l.RedoneAt = true, at
	case strings.HasPrefix(line, "LOG:  database system is ready to accept connections"):
		l.ready, l.ReadyAt = true, at
	case strings.HasPrefix(line, "error: ") && l.Program == "":
		l.Program = strings.TrimPrefix(line, "error: ")
	}
	if m := fatalLine.FindStringSubmatch(line); m != nil && l.fatal == "" {
		l.fatal, l.FatalCode = m[1], code
	}
}

// Why says why a server ended.
func (l Log) Why() string {
	switch {
	case l.Program != "":
		return l.Program
	case l.fatal != "":
		return l.fatal
	}
	return "its log does not say why"
}

// Compare holds how far a recovery got against the plan, and returns a
// pgmedic.KindIntegrity error if it ended elsewhere. PostgreSQL 12 opens a server that did
// not reach its target without saying so.
func (l Log) Compare(p *recovery.Plan) error {
	hint := "don't use this server; delete it, and see `pgmedic wal status`"
	wrong := func(format string, args ...any) error {
		return pgmedic.Errorf(pgmedic.KindIntegrity, hint, "the recovery ended elsewhere than planned: "+format, args...)
	}
	w := p.WAL
	switch {
	case l.Redone == 0 && !l.nothing:
		return wrong("PostgreSQL's log does not say what was replayed")
	case w.Stop == wal.StopAtLSN && l.Redone != w.LSN:
		return wrong("the last record replayed is at %v, and not at %v", l.Redone, w.LSN)
	case w.Last != nil && l.Redone < w.Last.LSN:
		return wrong("the last record replayed is at %v, before the commit at %v", l.Redone, w.Last.LSN)
	case w.Stop != wal.StopAtLSN && l.Redone >= max(w.End, w.Base.Stop):
		return wrong("the last record replayed is at %v, behind %v", l.Redone, max(w.End, w.Base.Stop))
	}
	return nil
}
