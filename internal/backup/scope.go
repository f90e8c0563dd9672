package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

// enterScope records in the manifest what a partial backup does not hold.
func (r *Run) enterScope(without snapshot.LeftOut) error {
	p := r.Patterns
	for _, s := range without.Schemas {
		r.Logger.Warn("a schema that a rescue left behind is not in the backup; when it is no longer needed, drop it", "schema", s)
	}
	if p.Empty() {
		return nil
	}
	r.Manifest.Scope = &pgmedic.Scope{
		Tables: p.Tables, Schemas: p.Schemas, ExcludeTables: p.ExcludeTables, ExcludeSchemas: p.ExcludeSchemas,
		ExcludeTableData: p.ExcludeTableData, WithoutLargeObjects: without.LargeObjects, LeftOutForeignKeys: without.ForeignKeys,
	}
	if argumentBytes(without) > maxArguments {
		return pgmedic.Errorf(pgmedic.KindUsage, "choose more, or take a whole backup",
			"%d tables are to be left out, more than fit on pg_dump's command line", len(without.Tables)+len(without.WithoutRows))
	}
	return nil
}

// encodeNames writes the names of what is left out in the database's encoding, as
// pg_dump takes them.
func (r *Run) encodeNames(ctx context.Context, without *snapshot.LeftOut) error {
	for _, relations := range [][]snapshot.Relation{without.Tables, without.WithoutRows} {
		for i := range relations {
			names, err := postgres.Encode(ctx, r.conn, r.Manifest.Database.Encoding, []string{relations[i].Schema, relations[i].Name})
			if err != nil {
				return err
			}
			relations[i].Schema, relations[i].Name = names[0], names[1]
		}
	}
	return nil
}

// argumentBytes is how much of pg_dump's arguments it takes to leave that out.
func argumentBytes(without snapshot.LeftOut) int {
	n := 0
	for _, arg := range pgtool.LeaveOutArguments(without) {
		n += len(arg) + 1
	}
	return n
}

// dumpWithoutKeys writes a plain dump without the foreign keys that could not be
// made from it. pg_dump has no option for that, but pg_restore has: what comes
// after the rows goes through an archive.
func (r *Run) dumpWithoutKeys(ctx context.Context, w io.Writer, o pgtool.DumpOptions) (err error) {
	restore, err := r.Tools.Find(ctx, "pg_restore", o.Tool.Major)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pgmedic-backup-")
	if err != nil {
		return fmt.Errorf("make a folder for the definitions: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// For as long as it is locked, no other run takes the folder for one of a run that died.
	owner, err := os.OpenFile(filepath.Join(dir, "owner"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a folder for the definitions: %w", err)
	}
	defer func() { err = errors.Join(err, owner.Close()) }()
	if err := unix.Flock(int(owner.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock the folder for the definitions: %w", err)
	}
	o.Sections = []string{"pre-data", "data"}
	process, err := pgtool.StartDump(ctx, o)
	if err != nil {
		return err
	}
	if err := drain(w, process); err != nil {
		return err
	}
	archive, list := filepath.Join(dir, "post-data.dump"), filepath.Join(dir, "list")
	if err := r.stagePostData(ctx, archive, o); err != nil {
		return err
	}
	if err := pgtool.WriteList(ctx, restore, archive, list, o.LeftOut.ForeignKeys); err != nil {
		return err
	}
	if process, err = pgtool.StartScript(ctx, restore, archive, list); err != nil {
		return err
	}
	return drain(w, process)
}

// stagePostData writes the definitions that come after the rows into a file, because
// pg_restore reads them twice.
func (r *Run) stagePostData(ctx context.Context, path string, o pgtool.DumpOptions) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("stage the definitions: %w", err)
	}
	process, err := pgtool.StartArchive(ctx, pgtool.ArchiveOptions{
		Tool: o.Tool, Target: o.Target, Snapshot: o.Snapshot, LockTimeout: o.LockTimeout,
		Encoding: r.Manifest.Database.Encoding, Sections: []string{"post-data"}, LeftOut: o.LeftOut,
	})
	if err == nil {
		err = drain(f, process)
	}
	return errors.Join(err, f.Close())
}
