package backup

import (
	"context"
	"fmt"
	"io"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// dumpTools are the client programs that every logical method needs.
type dumpTools struct{ dump, dumpAll pgtool.Tool }

// findDumpTools finds programs that read the server's version.
func findDumpTools(ctx context.Context, r *Run) (t dumpTools, err error) {
	if t.dump, err = r.Tools.Find(ctx, "pg_dump", r.Manifest.Server.Major()); err != nil {
		return t, err
	}
	if t.dumpAll, err = r.Tools.Find(ctx, "pg_dumpall", r.Manifest.Server.Major()); err != nil {
		return t, err
	}
	r.Manifest.Programs.PgDump = t.dump.Version
	return t, nil
}

// takeSnapshot takes the snapshot that the whole backup reads in.
func takeSnapshot(ctx context.Context, r *Run) (snapshot *postgres.Snapshot, err error) {
	err = r.Step("snapshot", func() (err error) {
		snapshot, err = postgres.TakeSnapshot(ctx, r.conn, postgres.SnapshotOptions{
			LockTimeout: r.LockTimeout, Logger: r.Logger,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	r.Manifest.SnapshotAt = snapshot.TakenAt
	r.holding(snapshot.ID)
	return snapshot, nil
}

// storeGlobals stores roles and tablespaces. Only a superuser can read the
// hashes of passwords; without them the roles come back without passwords.
func (r *Run) storeGlobals(ctx context.Context, tool pgtool.Tool) error {
	var superuser bool
	err := r.conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&superuser)
	if err != nil {
		return postgres.Wrap(err, "read the role's privileges")
	}
	return r.Store(ctx, StoreOptions{Name: "globals.sql", Role: pgmedic.RoleGlobals},
		func(ctx context.Context, w io.Writer) error {
			defer r.session()()
			process, err := pgtool.StartDumpGlobals(ctx, tool, r.Target, superuser)
			if err == nil {
				err = drain(w, process)
			}
			if err != nil {
				return fmt.Errorf("dump the globals: %w", err)
			}
			return nil
		})
}
