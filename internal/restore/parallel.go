package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
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
		if err := s.Step("other data", func() error { return p.rest(ctx, s) }); err != nil {
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
	r, err := s.source().Open(ctx, object)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("stage the definitions: %w", err), r.Close())
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close(), r.Close())
}

// rest streams pg_dump's own data. It runs once: run twice it would double rows.
func (p *parallel) rest(ctx context.Context, s *Session) error {
	object, ok := s.Backup.Object(pgmedic.RoleRest)
	if !ok {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest names no archive of other data")
	}
	r, err := s.source().Open(ctx, object)
	if err != nil {
		return err
	}
	archive := &lockedReader{r: r}
	err = pgtool.RestoreArchive(ctx, pgtool.RestoreArchiveOptions{Tool: p.tool, Target: s.Database, Section: "data", Stdin: archive, Without: s.Without})
	return errors.Join(archive.readRest(ctx, err), archive.Close())
}

// rowLoader brings chunks back over several connections.
type rowLoader struct {
	*Session
	progress *pgmedic.Meter

	mu     sync.Mutex
	failed []pgmedic.Chunk // to be tried once more after all others
}

func newRowLoader(s *Session) *rowLoader {
	total := int64(0)
	for _, c := range s.Backup.Chunks {
		total += c.PlainBytes
	}
	return &rowLoader{Session: s, progress: s.meter("rows", total)}
}

func (l *rowLoader) load(ctx context.Context) error {
	for _, c := range l.Backup.Chunks {
		if c.Table < 0 || c.Table >= len(l.Backup.Tables) {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest has a chunk of no table")
		}
	}
	chunks := slices.Clone(l.Backup.Chunks)
	slices.SortStableFunc(chunks, func(a, b pgmedic.Chunk) int { return int(min(max(b.PlainBytes-a.PlainBytes, -1), 1)) })
	queue := make(chan pgmedic.Chunk, len(chunks))
	for _, c := range chunks {
		queue <- c
	}
	close(queue)
	group, groupCtx := errgroup.WithContext(ctx)
	for range min(l.jobs(), max(len(chunks), 1)) {
		group.Go(func() error { return l.work(groupCtx, queue) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return l.again(ctx)
}

func (l *rowLoader) work(ctx context.Context, queue <-chan pgmedic.Chunk) error {
	conn, err := connectLoading(ctx, l.Database)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for c := range queue {
		err := l.chunk(ctx, conn, c, "")
		if refusedRow(err) {
			l.mu.Lock()
			l.failed = append(l.failed, c)
			l.mu.Unlock()
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// connectLoading opens a session that loads: its commits need not reach the disk
// one by one, the last of the restore does.
func connectLoading(ctx context.Context, t postgres.Target) (*pgx.Conn, error) {
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
		postgres.Close(ctx, conn)
		return nil, postgres.Wrap(err, "set up the session")
	}
	return conn, nil
}

// refusedRow reports whether the server refused a row for what it holds.
func refusedRow(err error) bool {
	code := postgres.Code(err)
	return code != "" && (strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") ||
		strings.HasPrefix(code, "42") || strings.HasPrefix(code, "P0"))
}

// again tries the chunks that were refused: with a search_path, for checks and
// domains whose functions need one or read other tables, and through the root,
// for rows that belong into another leaf here.
func (l *rowLoader) again(ctx context.Context) error {
	if len(l.failed) == 0 {
		return nil
	}
	conn, err := connectLoading(ctx, l.Database)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for _, c := range l.failed {
		t := l.Backup.Tables[c.Table]
		path := "SET search_path = " + pgmedic.QuoteIdent(t.Schema) + ", public"
		if _, err := conn.Exec(ctx, path); err != nil {
			return postgres.Wrap(err, "set the search path")
		}
		err := l.chunk(ctx, conn, c, "")
		if t.RootName != "" && postgres.Code(err) == "23514" {
			err = l.chunk(ctx, conn, c, t.CountedAs())
		}
		if refusedRow(err) {
			return &RefusedError{err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RefusedError says that the server refused rows of the backup for what they
// hold, and not for want of disk, memory or life.
type RefusedError struct{ err error }

// Error implements error.
func (e *RefusedError) Error() string { return e.err.Error() }

// Unwrap returns what the server said.
func (e *RefusedError) Unwrap() error { return e.err }

// chunk copies one chunk into its table, or into the one named. The COPY is a
// statement of its own: all of its rows come, or none.
func (l *rowLoader) chunk(ctx context.Context, conn *pgx.Conn, c pgmedic.Chunk, into string) error {
	t := l.Backup.Tables[c.Table]
	if into == "" {
		into = pgmedic.QuoteQualified(t.Schema, t.Name)
	}
	r, err := l.source().OpenChunk(ctx, c)
	if err != nil {
		return err
	}
	// CopyFrom ends the COPY with an error of r's, so that a chunk that turns
	// out to be damaged at its end leaves no row.
	passed := &passing{to: l.progress}
	l.progress.Object(into)
	tag, err := conn.PgConn().CopyFrom(ctx, io.TeeReader(r, passed), postgres.CopyInSQL(into, t.Columns, t.Format, l.Backup.Database.Encoding))
	closeErr := r.Close()
	if err != nil {
		passed.takeBack()
	}
	if cause := r.failure(); cause != nil {
		return cause
	}
	if err != nil {
		return postgres.Wrap(err, "load table "+into)
	}
	if tag.RowsAffected() != c.Rows {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup",
			"a chunk of %s holds %d rows, the manifest says %d", into, tag.RowsAffected(), c.Rows)
	}
	return closeErr
}
