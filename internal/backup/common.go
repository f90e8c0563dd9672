package backup

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

// underSnapshot does what every logical method begins with: it finds the client
// programs, takes the snapshot that the whole backup reads in, and stores the
// inventory and the globals, beside rows, which has the snapshot to itself.
func underSnapshot(ctx context.Context, r *Run, rows func(ctx context.Context, dump pgtool.Tool, s *snapshot.Snapshot) error) error {
	dump, err := r.Tools.Find(ctx, "pg_dump", r.Manifest.Server.Major())
	if err != nil {
		return err
	}
	dumpAll, err := r.Tools.Find(ctx, "pg_dumpall", r.Manifest.Server.Major())
	if err != nil {
		return err
	}
	r.Manifest.Programs.PgDump = dump.Version
	// Only a superuser can read the hashes of passwords.
	var superuser bool
	if err := r.conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&superuser); err != nil {
		return postgres.Wrap(err, "read the role's privileges")
	}
	encoding, err := postgres.GlobalsEncoding(ctx, r.conn)
	if err != nil {
		return err
	}
	snapshot, err := takeSnapshot(ctx, r)
	if err != nil {
		return err
	}
	defer snapshot.Close(ctx)
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := r.Step("inventory", func() error { return r.storeInventory(groupCtx, snapshot.LeftOut) }); err != nil {
			return err
		}
		return r.Step("globals", func() error { return r.storeGlobals(groupCtx, dumpAll, encoding, superuser) })
	})
	group.Go(func() error { return rows(groupCtx, dump, snapshot) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := r.storeSums(ctx); err != nil {
		return err
	}
	// The parallel method itself checks each file of tables that could not be locked ahead,
	// and a TRUNCATE after its rows are out does no harm.
	return snapshot.Held(ctx, snapshot.Locked || r.Manifest.Method == pgmedic.MethodPlain)
}

// takeSnapshot takes the snapshot that the whole backup reads in.
func takeSnapshot(ctx context.Context, r *Run) (taken *snapshot.Snapshot, err error) {
	err = r.Step("snapshot", func() (err error) {
		taken, err = snapshot.Take(ctx, r.conn, snapshot.Options{
			LockTimeout: r.LockTimeout, Patterns: r.Patterns, Logger: r.Logger,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	r.Manifest.SnapshotAt, r.Manifest.SnapshotLSN, r.Manifest.SnapshotTimeline = taken.TakenAt, taken.LSN, taken.Timeline
	r.holding(taken.ID)
	err = r.enterScope(taken.LeftOut)
	if err == nil {
		err = r.encodeNames(ctx, &taken.LeftOut)
	}
	if err != nil {
		taken.Close(ctx)
		return nil, err
	}
	return taken, nil
}

// storeGlobals stores roles and tablespaces. Without the hashes of passwords the
// roles come back without passwords.
func (r *Run) storeGlobals(ctx context.Context, tool pgtool.Tool, encoding string, passwords bool) error {
	return r.Store(ctx, StoreOptions{Name: "globals.sql", Role: pgmedic.RoleGlobals},
		func(ctx context.Context, w io.Writer) error {
			defer r.session()()
			process, err := pgtool.StartDumpGlobals(ctx, tool, r.Target, encoding, passwords)
			if err == nil {
				err = drain(w, process)
			}
			if err != nil {
				return fmt.Errorf("dump the globals: %w", err)
			}
			return nil
		})
}
