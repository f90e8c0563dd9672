package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// enterScope records in the manifest what a partial backup does not hold.
func (r *Run) enterScope(without postgres.LeftOut) error {
	p := r.Patterns
	if p.Empty() {
		return nil
	}
	r.Manifest.Scope = &pgmedic.Scope{
		Tables: p.Tables, Schemas: p.Schemas, ExcludeTables: p.ExcludeTables, ExcludeSchemas: p.ExcludeSchemas,
		ExcludeTableData: p.ExcludeTableData, WithoutLargeObjects: without.LargeObjects, LeftOutForeignKeys: without.ForeignKeys,
	}
	if r.Manifest.Database.Encoding != "UTF8" {
		for _, t := range slices.Concat(without.Tables, without.WithoutRows) {
			if strings.ContainsFunc(t.Schema+t.Name, func(c rune) bool { return c >= 0x80 }) {
				return pgmedic.Errorf(pgmedic.KindUsage, "take a whole backup, or leave it in",
					"table %s is to be left out, and in a database encoded in %s pg_dump can't be told so", pgmedic.QuoteQualified(t.Schema, t.Name), r.Manifest.Database.Encoding)
			}
		}
	}
	if argumentBytes(without) > maxArguments {
		return pgmedic.Errorf(pgmedic.KindUsage, "choose more, or take a whole backup",
			"%d tables are to be left out, more than pg_dump can be told of", len(without.Tables)+len(without.WithoutRows))
	}
	return nil
}

// argumentBytes is how much of pg_dump's arguments it takes to leave that out.
func argumentBytes(without postgres.LeftOut) int {
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

// stagePostData writes the definitions that come after the rows into a file, for
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
