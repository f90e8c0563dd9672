package pgtool

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// DumpOptions say what pg_dump writes.
type DumpOptions struct {
	Tool   Tool
	Target postgres.Target
	// Snapshot is the exported snapshot to read in.
	Snapshot string
	// Encoding is the database's own; a session's may be another. The names in
	// LeftOut are in it, too.
	Encoding string
	// LockTimeout bounds the wait for each table's lock.
	LockTimeout time.Duration
	// LeftOut is what a partial backup does not hold.
	LeftOut snapshot.LeftOut
	// Sections are those to write; none means all.
	Sections []string
	// LoginTriggersOff keeps the database's login triggers from firing in pg_dump's
	// sessions. It takes PostgreSQL 17 and a superuser.
	LoginTriggersOff bool
}

// StartDump begins a pg_dump of a database as SQL.
func StartDump(ctx context.Context, o DumpOptions) (*Process, error) {
	args := []string{
		"--format=plain",
		"--snapshot=" + o.Snapshot,
		"--encoding=" + o.Encoding,
		fmt.Sprintf("--lock-wait-timeout=%d", o.LockTimeout.Milliseconds()),
	}
	for _, s := range o.Sections {
		args = append(args, "--section="+s)
	}
	options := readingOptions
	if o.LoginTriggersOff {
		options += " -c event_triggers=off"
	}
	return Start(ctx, Command{
		Tool: o.Tool, Target: o.Target, Args: append(args, LeaveOutArguments(o.LeftOut)...), Options: options,
	})
}

// readingOptions are what pg_dump does not set itself of the settings by which our
// own sessions write values as text: what it writes is compared with what they read.
const readingOptions = "-c TimeZone=UTC -c bytea_output=hex"

// LeaveOutArguments are pg_dump's arguments that leave out what a partial backup
// does not hold. Each table is named to the letter: what is in a backup is
// decided once, and not by pg_dump's patterns again.
func LeaveOutArguments(l snapshot.LeftOut) []string {
	var args []string
	for _, s := range l.Schemas {
		args = append(args, "--exclude-schema="+sqltext.QuoteIdent(s))
	}
	for _, r := range l.Tables {
		if slices.Contains(l.Schemas, r.Schema) {
			continue
		}
		args = append(args, "--exclude-table="+sqltext.QuoteQualified(r.Schema, r.Name))
	}
	for _, r := range l.WithoutRows {
		args = append(args, "--exclude-table-data="+sqltext.QuoteQualified(r.Schema, r.Name))
	}
	if l.LargeObjects {
		args = append(args, "--no-blobs")
	}
	return args
}

// StartDumpGlobals begins a pg_dumpall of roles and tablespaces. Their
// passwords (as hashes) are part of it only with passwords, which takes a
// superuser. The encoding is that of the database postgres, which pg_dumpall reads
// them through.
func StartDumpGlobals(ctx context.Context, tool Tool, t postgres.Target, encoding string, passwords bool) (*Process, error) {
	args := []string{"--globals-only", "--encoding=" + encoding}
	if !passwords {
		args = append(args, "--no-role-passwords")
	}
	return Start(ctx, Command{Tool: tool, Target: t, Args: args})
}
