package pgtool

import (
	"context"
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// DumpOptions say what pg_dump writes.
type DumpOptions struct {
	Tool   Tool
	Target postgres.Target
	// Snapshot is the exported snapshot to read in.
	Snapshot string
	// LockTimeout bounds the wait for each table's lock.
	LockTimeout time.Duration
}

// StartDump begins a pg_dump of a whole database as SQL.
func StartDump(ctx context.Context, o DumpOptions) (*Process, error) {
	return Start(ctx, Command{Tool: o.Tool, Target: o.Target, Args: []string{
		"--format=plain",
		"--snapshot=" + o.Snapshot,
		fmt.Sprintf("--lock-wait-timeout=%d", o.LockTimeout.Milliseconds()),
	}})
}

// StartDumpGlobals begins a pg_dumpall of roles and tablespaces. Their
// passwords (as hashes) are part of it only with passwords, which takes a
// superuser.
func StartDumpGlobals(ctx context.Context, tool Tool, t postgres.Target, passwords bool) (*Process, error) {
	args := []string{"--globals-only"}
	if !passwords {
		args = append(args, "--no-role-passwords")
	}
	return Start(ctx, Command{Tool: tool, Target: t, Args: args})
}
