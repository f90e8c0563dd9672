package restore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// parallel loads what backup.Parallel stored: definitions, then the chunks over
// several connections, then what pg_dump kept, then indexes and constraints.
type parallel struct {
	tool pgtool.Tool
	left parallelLeft
}

// parallelLeft is what was refused.
type parallelLeft struct {
	definitions []*refusal
	went        map[string]int // as in statementLoader
	rows        []refusedPart
	rest        map[string]bool // entries of pg_dump's own data
}

// Ready implements Loader.
func (p *parallel) Ready(ctx context.Context, s *Session) (err error) {
	p.tool, err = s.Tools.Find(ctx, "pg_restore", pgtool.AtLeast(s.Backup))
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
	l := &statementLoader{Session: s, superuser: superuser}
	defer func() { l.close(ctx) }()
	archive := pgtool.RestoreArchiveOptions{
		Tool: p.tool, Target: s.Database, File: schema, Section: "pre-data", EventTriggersOff: superuser, Without: s.Without,
	}
	if err := s.Step("definitions", func() error { return l.section(ctx, archive, dir) }); err != nil {
		return err
	}
	if !s.Without.Rows {
		rows := newRowLoader(s)
		if err := s.Step("rows", func() error { return rows.load(ctx) }); err != nil {
			return err
		}
		p.left.rows = rows.failed
		if err := s.Step("other data", func() error { return p.rest(ctx, l, schema) }); err != nil {
			return err
		}
	}
	if err := l.postData(ctx, archive, dir); err != nil {
		return err
	}
	l.note()
	p.left.definitions, p.left.went = l.refused, l.went
	return nil
}

// section restores a section of an archive, past what the server refuses, and tries that
// again. Lists go into dir.
func (l *statementLoader) section(ctx context.Context, archive pgtool.RestoreArchiveOptions, dir string) error {
	refused, err := pgtool.RestoreArchive(ctx, archive)
	if err != nil {
		return err
	}
	return l.entriesAgain(ctx, archive.Tool, archive.File, dir, refused)
}

// postData restores what comes after the rows, part by part.
func (l *statementLoader) postData(ctx context.Context, archive pgtool.RestoreArchiveOptions, dir string) error {
	var leftOut []pgmedic.ForeignKey
	if scope := l.Backup.Scope; scope != nil {
		leftOut = scope.LeftOutForeignKeys
	}
	parts, err := pgtool.PostDataParts(ctx, archive.Tool, archive.File, dir, leftOut)
	if err != nil {
		return err
	}
	jobs, err := l.jobsWithin(ctx)
	if err != nil {
		return err
	}
	archive.Section = "post-data"
	return l.Step("indexes", func() error {
		for _, part := range parts {
			archive.List, archive.Jobs = part.List, jobs
			if part.Alone {
				archive.Jobs = 1
			}
			if err := l.section(ctx, archive, dir); err != nil {
				return err
			}
			if part.Attaches { // what needed an index of partitions to be valid, and did not say so
				if err := l.refusedAgain(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Again implements Loader.
func (p *parallel) Again(ctx context.Context, s *Session) error {
	superuser, err := isSuperuser(ctx, s.Database)
	if err != nil {
		return err
	}
	l := &statementLoader{Session: s, superuser: superuser}
	if err := l.open(ctx); err != nil {
		return err
	}
	defer l.close(ctx)
	if p.left.went != nil {
		l.went = p.left.went
	}
	before, after := splitPostData(p.left.definitions)
	l.refused = before
	if err := l.definitionsAgain(ctx); err != nil {
		return err
	}
	if !s.Without.Rows {
		rows := newRowLoader(s)
		rows.failed = p.left.rows
		if err := rows.again(ctx); err != nil {
			return err
		}
		p.left.rows = rows.failed
		if err := p.stagedRest(ctx, l); err != nil {
			return err
		}
	}
	l.refused = append(l.refused, after...)
	if err := l.definitionsAgain(ctx); err != nil {
		return err
	}
	l.note()
	p.left.definitions = l.refused
	return nil
}

// stagedRest tries again what was refused of pg_dump's own data.
func (p *parallel) stagedRest(ctx context.Context, l *statementLoader) error {
	if len(p.left.rest) == 0 {
		return nil
	}
	dir, remove, err := makeStaging()
	if err != nil {
		return err
	}
	defer remove()
	schema := filepath.Join(dir, "schema.dump")
	if _, alone := l.Backup.Object(pgmedic.RoleRest); !alone {
		if err := p.stage(ctx, l.Session, schema); err != nil {
			return err
		}
	}
	return p.restAgain(ctx, l, schema)
}

// splitPostData parts what comes before the rows of a dump from what comes after them.
func splitPostData(refused []*refusal) (before, after []*refusal) {
	for _, f := range refused {
		if f.entry.IsPostData() {
			after = append(after, f)
		} else {
			before = append(before, f)
		}
	}
	return before, after
}

// jobs is how many connections load.
func (s *Session) jobs() int { return postgres.Jobs(s.Jobs) }

// jobsWithin is how many of them pg_restore can have, which fails where it gets fewer than
// it was told.
func (s *Session) jobsWithin(ctx context.Context) (int, error) {
	conn, err := postgres.Connect(ctx, s.Database)
	if err != nil {
		return 0, err
	}
	defer postgres.Close(ctx, conn)
	jobs, err := postgres.JobsWithin(ctx, conn, s.jobs(), 1)
	if err == nil && jobs < s.jobs() {
		s.Logger.Warn("the server has few connections left: the restore takes longer", "jobs", jobs, "asked", s.jobs())
	}
	return jobs, err
}

// stage writes the archive of definitions to a file.
func (*parallel) stage(ctx context.Context, s *Session, path string) error {
	return s.Source().StageDefinitions(ctx, path)
}

// archiveMagic is what an archive of pg_dump begins with.
const archiveMagic = "PGDMP"

// stage writes an archive of definitions to a file: anything else, and
// one that is larger than the database that it describes, must not fill the disk.
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
			"backup %s is damaged: %s is not an archive of pg_dump", s.Backup.ID, object.Name)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("stage the definitions: %w", err)
	}
	_, err = io.Copy(f, io.MultiReader(bytes.NewReader(head), r))
	return errors.Join(err, f.Close())
}

// rest brings back pg_dump's own data, streamed, or from the staged archive where
// it is in there with the definitions. It runs once: a second run would duplicate rows.
// What was refused of it is read once more for each further try.
func (p *parallel) rest(ctx context.Context, l *statementLoader, schema string) error {
	err := p.readRest(ctx, l.Session, schema, func(file string, stdin io.Reader) (err error) {
		p.left.rest, err = pgtool.RestoreArchive(ctx, pgtool.RestoreArchiveOptions{
			Tool: p.tool, Target: l.Database, Section: "data", File: file, Stdin: stdin, Without: l.Without,
		})
		return err
	})
	if err != nil || len(p.left.rest) == 0 {
		return err
	}
	if err := l.open(ctx); err != nil {
		return err
	}
	return p.restAgain(ctx, l, schema)
}

// restAgain tries what was refused of it, round by round, and notes what stays
// refused.
func (p *parallel) restAgain(ctx context.Context, l *statementLoader, schema string) error {
	d := &restLoad{statementLoader: &statementLoader{Session: l.Session, conn: l.conn, own: l.own}, ids: p.left.rest}
	for again := true; again && len(d.ids) > 0; {
		again = false
		err := p.readRest(ctx, l.Session, schema, func(file string, stdin io.Reader) error {
			script, err := pgtool.StartArchiveScript(ctx, p.tool, file, stdin)
			if err != nil {
				return err
			}
			again, err = d.pass(ctx, script)
			return errors.Join(err, script.Close())
		})
		if err != nil {
			return err
		}
	}
	d.note()
	p.left.rest = d.ids
	return l.backToDump(ctx)
}

// restLoad is what of pg_dump's own data was refused.
type restLoad struct {
	*statementLoader
	ids map[string]bool
}

// pass tries the entries with the numbers in ids, and reports whether one went in.
func (d *restLoad) pass(ctx context.Context, script io.Reader) (wentIn bool, err error) {
	still := map[string]*refusal{}
	sql := dumpsql.NewScript(script)
	err = dumpsql.EachStatement(sql, func(st *dumpsql.Statement) error {
		if !d.ids[st.Entry.ID] {
			if st.Entry == (dumpsql.Entry{}) {
				return st.Run(ctx, d.conn) // the dump's settings
			}
			return nil
		}
		if err := postgres.SetPath(ctx, d.conn, d.retryPath(st.Entry.Schema, d.own)); err != nil {
			return err
		}
		aborted := d.conn.PgConn().TxStatus() == 'E'
		err := st.Run(ctx, d.conn)
		if err == nil || aborted && postgres.Code(err) == "25P02" {
			return nil
		}
		if !postgres.RefusedContent(err) {
			return err
		}
		if still[st.Entry.ID] == nil {
			still[st.Entry.ID] = &refusal{entry: st.Entry, table: st.Table, err: err}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	wentIn = len(still) < len(d.ids)
	d.ids, d.refused = map[string]bool{}, nil
	for id, f := range still {
		f.rows, d.ids[id] = sql.Rows.Counts()[f.table], true
		d.refused = append(d.refused, f)
	}
	slices.SortFunc(d.refused, func(a, b *refusal) int { return cmp.Compare(a.entry.String(), b.entry.String()) })
	return wentIn, nil
}

// readRest lets do read the archive of pg_dump's own data: the file of the
// definitions where it is in there, or else a stream, to its end.
func (*parallel) readRest(ctx context.Context, s *Session, schema string, do func(file string, stdin io.Reader) error) error {
	object, ok := s.Backup.Object(pgmedic.RoleRest)
	if !ok {
		return do(schema, nil)
	}
	r, err := s.Source().Open(ctx, object)
	if err != nil {
		return err
	}
	in := pgtool.NewInput(r)
	err = do("", in)
	return errors.Join(in.ReadRest(ctx, err), in.Close())
}
