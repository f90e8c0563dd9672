package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
)

// parallel loads what backup.Parallel stored: definitions, then the chunks over
// several connections, then what pg_dump kept, then indexes and constraints.
type parallel struct{ tool pgtool.Tool }

// Ready implements Loader.
func (p *parallel) Ready(ctx context.Context, s *Session) (err error) {
	p.tool, err = s.Tools.Find(ctx, "pg_restore", s.atLeast())
	return err
}

// Load implements Loader.
func (p *parallel) Load(ctx context.Context, s *Session) error {
	// pg_restore reads the definitions several times, so they are staged; rows
	// never are.
	dir, remove, err := makeStaging()
	if err != nil {
		return err
	}
	defer remove()
	schema := filepath.Join(dir, "schema.dump")
	if err := p.stage(ctx, s, schema); err != nil {
		return err
	}
	superuser, err := isSuperuser(ctx, s.Database)
	if err != nil {
		return err
	}
	archive := pgtool.RestoreArchiveOptions{
		Tool: p.tool, Target: s.Database, File: schema, Section: "pre-data", EventTriggersOff: superuser, Without: s.Without,
	}
	if err := s.Step("definitions", func() error { return pgtool.RestoreArchive(ctx, archive) }); err != nil {
		return err
	}
	if !s.Without.Rows {
		if err := s.Step("rows", func() error { return newRowLoader(s).load(ctx) }); err != nil {
			return err
		}
		if err := s.Step("other data", func() error { return p.rest(ctx, s, schema) }); err != nil {
			return err
		}
	}
	var leftOut []pgmedic.ForeignKey
	if scope := s.Backup.Scope; scope != nil {
		leftOut = scope.LeftOutForeignKeys
	}
	rest, triggers, err := pgtool.PostDataLists(ctx, p.tool, schema, dir, leftOut)
	if err != nil {
		return err
	}
	archive.Section, archive.Jobs, archive.MaintenanceWorkMem, archive.List = "post-data", s.jobs(), "128MB", rest
	return s.Step("indexes", func() error {
		if err := pgtool.RestoreArchive(ctx, archive); err != nil || triggers == "" {
			return err
		}
		archive.Jobs, archive.List = 1, triggers
		return pgtool.RestoreArchive(ctx, archive)
	})
}

// jobs is how many connections load.
func (s *Session) jobs() int {
	if s.Jobs > 0 {
		return s.Jobs
	}
	return runtime.NumCPU()
}

// stage writes the archive of definitions to a file.
func (*parallel) stage(ctx context.Context, s *Session, path string) error {
	object, ok := s.Backup.Object(pgmedic.RoleSchema)
	if !ok {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest names no definitions")
	}
	return s.source().stage(ctx, object, path)
}

// archiveMagic is what an archive of pg_dump begins with.
const archiveMagic = "PGDMP"

// stage writes an archive of definitions to a file: what is no archive, or is
// larger than the database that it describes, is not let fill the disk.
func (s Source) stage(ctx context.Context, object pgmedic.Object, path string) (err error) {
	if object.PlainBytes > s.room(256<<20+s.Backup.Database.SizeBytes, 64<<10) {
		return s.tooLarge(object)
	}
	r, err := s.Open(ctx, object)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	head := make([]byte, len(archiveMagic))
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF { // ReadFull's own: an error that wraps one says that reading failed
		return err
	}
	if string(head[:n]) != archiveMagic {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them",
			"backup %s is damaged: %s is no archive of pg_dump", s.Backup.ID, object.Name)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("stage the definitions: %w", err)
	}
	_, err = io.Copy(f, io.MultiReader(bytes.NewReader(head), r))
	return errors.Join(err, f.Close())
}

// rest brings back pg_dump's own data, streamed, or from the staged archive where
// it is in there with the definitions. It runs once: run twice it would double rows.
func (p *parallel) rest(ctx context.Context, s *Session, schema string) error {
	archive := pgtool.RestoreArchiveOptions{Tool: p.tool, Target: s.Database, Section: "data", File: schema, Without: s.Without}
	object, ok := s.Backup.Object(pgmedic.RoleRest)
	if !ok {
		return pgtool.RestoreArchive(ctx, archive)
	}
	r, err := s.source().Open(ctx, object)
	if err != nil {
		return err
	}
	in := &lockedReader{r: r}
	archive.File, archive.Stdin = "", in
	err = pgtool.RestoreArchive(ctx, archive)
	return errors.Join(in.readRest(ctx, err), in.Close())
}
