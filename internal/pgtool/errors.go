package pgtool

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// Error is the failure of a client program, without what it wrote: that can
// quote rows.
type Error struct {
	Program string
	// Text says what happened in words that hold no data.
	Text string
	// Damaged is true where the server found its own files missing or wrong.
	Damaged bool
	// Full is all that the program wrote. It is for the terminal of a person
	// who asked for it, and never for a log.
	Full string
}

// Error returns the program's name and the safe text.
func (e *Error) Error() string { return e.Program + ": " + e.Text }

// Unredacted returns all that the program wrote, which may hold rows.
func (e *Error) Unredacted() string { return e.Full }

// exitError turns a program's exit into an error. When ctx has ended the cause
// is that, and not "signal: terminated".
func exitError(ctx context.Context, program string, err error, stderr string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", program, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("run %s: %w", program, err)
	}
	e := &Error{Program: program, Full: strings.TrimSpace(stderr)}
	kind, hint := e.explain(stderr)
	if e.Text == "" {
		e.Text = fmt.Sprintf("ended with %s", exit.ProcessState)
		hint = "run again with --show-data-in-errors to see its own words, which may quote rows"
	}
	return pgmedic.Errorf(kind, hint, "%w", e)
}

// known are messages that name objects and limits but never values. The whole
// line is kept.
func known() []struct {
	pattern *regexp.Regexp
	kind    pgmedic.Kind
	hint    string
} {
	type entry = struct {
		pattern *regexp.Regexp
		kind    pgmedic.Kind
		hint    string
	}
	line := func(text string) *regexp.Regexp { return regexp.MustCompile(`(?m)` + text + `.*$`) }
	return []entry{
		{line(`password authentication failed for user`), pgmedic.KindUnreachable, "check DB_PASSWORD, the password in DATABASE_URL, or ~/.pgpass"},
		{line(`fe_sendauth: no password supplied`), pgmedic.KindUnreachable, "give a password with DB_PASSWORD, in DATABASE_URL, or in ~/.pgpass"},
		{line(`permission denied to create extension `), pgmedic.KindUnreachable, "have a superuser make the extension where the backup goes, or restore as a role that may: it says nothing about the backup"},
		{line(`permission denied (for [a-z ]+|to set parameter|to create [a-z-]+) `), pgmedic.KindUnreachable, "grant the privilege to the role that pgmedic uses; `pgmedic init` prints the roles it needs"},
		{line(`query would be affected by row-level security policy for table`), pgmedic.KindUnreachable, "use a role with BYPASSRLS: a backup under row-level security would miss rows"},
		{line(`server version mismatch`), pgmedic.KindUsage, "install client programs of the server's version, or name their folder in PGMEDIC_POSTGRES_DIRS"},
		{line(`canceling statement due to lock timeout`), pgmedic.KindConflict, "another session holds a lock: run the command again, or raise backup.lock_timeout"},
		// What pg_dump's --lock-wait-timeout is made of; it knows no other.
		{line(`canceling statement due to statement timeout`), pgmedic.KindConflict, "pg_dump waited too long for a table, perhaps behind a migration that waits for the backup: run it again when that is done, or raise backup.lock_timeout"},
		{line(`canceling statement due to [a-z ]+`), pgmedic.KindFailed, ""},
		{line(`terminating connection due to [a-z ]+`), pgmedic.KindUnreachable, "the server ended the session: check its log, then run the command again"},
		{line(`server closed the connection unexpectedly`), pgmedic.KindUnreachable, "check the server's log and the network, then run the command again"},
		{line(`could not (?:receive data from|send data to) server`), pgmedic.KindUnreachable, "check the server's log and the network, then run the command again"},
		{line(`no connection to the server`), pgmedic.KindUnreachable, "check the server's log and the network, then run the command again"},
		{line(`SSL (?:SYSCALL )?error: `), pgmedic.KindUnreachable, "check the server's log and the network, then run the command again"},
		{line(`database "[^"]*" does not exist`), pgmedic.KindNotFound, "list the server's databases: psql -l"},
		{line(`connection to server (at|on) .* failed`), pgmedic.KindUnreachable, "check that the server runs and can be reached"},
		{line(`the database system is [a-z ]+`), pgmedic.KindUnreachable, "the server is starting up or shutting down: try again in a moment"},
		{line(`out of shared memory`), pgmedic.KindFailed, "raise max_locks_per_transaction on the server"},
		{line(`(could not import the requested snapshot|invalid snapshot identifier|snapshot "[0-9A-F-]+" does not exist)`), pgmedic.KindUnreachable, "the snapshot ended: did the server restart, or does the connection string name several servers?"},
		{damage, pgmedic.KindFailed, "the server found damage in its own files: see its log before anything else is written to it"},
		{line(`No space left on device`), pgmedic.KindFailed, "free space on the server's disk"},
	}
}

// refusedLine is what pg_restore prints when the server refuses a statement or
// a row.
var refusedLine = regexp.MustCompile(`(?m)^pg_restore: error: (?:could not execute query|COPY failed for table .*|error returned by PQputCopy\w+): ([^\s:]+):  `)

// damage is what a server says of its own files.
var damage = regexp.MustCompile(`(?m)(invalid page in block|could not read block|could not open file "(base|pg_tblspc|global)/|missing chunk number|invalid memory alloc request size).*$`)

// quoting matches the beginning of what can quote a row or a statement: the
// parts of a server's message after the first, and the client programs' own.
var quoting = regexp.MustCompile(`^(?:pg_\w+: )?(?:DETAIL|HINT|QUERY|CONTEXT|STATEMENT|LOCATION|LINE \d+|detail|hint):? `)

// speaking matches the beginning of a message.
var speaking = regexp.MustCompile(`^(?:pg_dump|pg_dumpall|pg_restore): `)

// messages leaves of a standard error the lines that say what happened, without
// those that quote what it happened to. Text that begins like a message may
// still be somebody's: what is kept of it is decided by known.
func messages(stderr string) string {
	var kept []string
	quoted := false
	for line := range strings.Lines(stderr) {
		switch {
		// pg_dump passes the server's message on as a detail of its own.
		case strings.HasPrefix(line, "pg_dump: detail: Error message from server: "):
			quoted = false
		case quoting.MatchString(line):
			quoted = true
		case speaking.MatchString(line):
			quoted = false
		}
		if !quoted {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// tooLarge matches what a server says of text that is longer than it can hold,
// which is 1 GiB. The number is of bytes; a later part holds numbers alone.
var tooLarge = regexp.MustCompile(`invalid memory alloc request size (\d+)|string buffer exceeds maximum allowed length \(\d+ bytes\)|` +
	`Cannot enlarge string buffer containing \d+ bytes by \d+ more bytes`)

// tooLargeForText says so of an error that is about a value too large to be written
// as text, or returns nothing. The text of a value, which is at most 1 GiB, takes at
// most four times its bytes: a request for more is of damage.
func tooLargeForText(stderr string) string {
	for _, m := range tooLarge.FindAllStringSubmatch(stderr, -1) {
		if m[1] == "" {
			return m[0]
		}
		if n, err := strconv.ParseUint(m[1], 10, 64); err == nil && postgres.TooLargeForText(n) {
			return m[0]
		}
	}
	return ""
}

func (e *Error) explain(stderr string) (pgmedic.Kind, string) {
	said := messages(stderr)
	if text := tooLargeForText(stderr); text != "" {
		e.Text = text
		return pgmedic.KindFailed, "a value of more than 512 MB has no text form: back up with --method parallel, which copies tables of built-in types and enums in binary; docs/limits.md says more"
	}
	for _, k := range known() {
		if text := k.pattern.FindString(said); text != "" {
			e.Text, e.Damaged = text, k.pattern == damage
			return k.kind, k.hint
		}
	}
	m := refusedLine.FindStringSubmatch(said)
	if m != nil && m[1] != "ERROR" {
		e.Text = "the server refused a statement of the archive, in another language than English"
		return pgmedic.KindFailed, "let pgmedic's role choose the language: GRANT SET ON PARAMETER lc_messages TO it (from PostgreSQL 15 on); or run again with --show-data-in-errors"
	}
	if m != nil {
		e.Text = "the server refused a statement of the archive"
		return pgmedic.KindFailed, "run again with --show-data-in-errors to see the server's own words, which may quote rows"
	}
	return pgmedic.KindFailed, ""
}
