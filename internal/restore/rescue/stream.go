package rescue

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// readyStream looks for what is needed to read rows that are in no chunk: those
// of a plain backup, and the few that pg_dump keeps in a parallel one.
func (r *rescue) readyStream(ctx context.Context) (err error) {
	if !slices.ContainsFunc(r.names, r.streamed) {
		return nil
	}
	var ok bool
	if r.dump, ok = r.Backup.Object(pgmedic.RoleDump); r.Backup.Method == pgmedic.MethodParallel {
		r.dump, ok = r.Backup.RestObject()
		if r.tool, err = r.Tools.Find(ctx, "pg_restore", pgtool.AtLeast(r.Backup)); err != nil {
			return err
		}
	}
	if !ok {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest names no dump")
	}
	return nil
}

// stream is the SQL of the dump.
type stream struct {
	io.Reader
	stored  *pgtool.Input
	process *pgtool.Process
}

// failure is what the store or the seal said, which is the cause of whatever
// pg_restore made of it.
func (s *stream) failure(ctx context.Context, err error) error {
	if s.process != nil {
		_ = s.process.Close() // it has ended, or is of no use any more
	}
	return errors.Join(s.stored.ReadRest(ctx, err), s.stored.Close())
}

func (r *rescue) openStream(ctx context.Context) (*stream, error) {
	object, err := r.Source().Open(ctx, r.dump)
	if err != nil {
		return nil, err
	}
	s := &stream{stored: pgtool.NewInput(object)}
	s.Reader = s.stored
	if r.Backup.Method == pgmedic.MethodParallel {
		if s.process, err = pgtool.StartArchiveScript(ctx, r.tool, "", s.stored); err != nil {
			return nil, errors.Join(err, s.stored.Close())
		}
		s.Reader = s.process
	}
	return s, nil
}

// streamLoad loads tables out of a stream.
type streamLoad struct {
	*rescue
	conn *pgx.Conn
	// want maps names in the dump to tables; through are topmost partitioned
	// tables of which a partition alone is wanted.
	want    map[string]int
	through map[string]string
	began   map[int]bool
}

// loadStream brings back rows that are in no chunk. All of the object is read,
// because only its end shows that it is what was written.
func (r *rescue) loadStream(ctx context.Context) error {
	l := &streamLoad{rescue: r, want: map[string]int{}, through: map[string]string{}, began: map[int]bool{}}
	for k, n := range r.names {
		if r.reused[k] {
			continue
		}
		for _, i := range n.tables {
			t := r.Backup.Tables[i]
			if t.Format != "" {
				continue
			}
			l.want[sqltext.QuoteQualified(t.Schema, t.Name)] = k
			if n.root {
				l.want[n.String()] = k
			} else if t.RootName != "" {
				l.through[sqltext.CountedAs(t)] = n.String()
			}
		}
	}
	if len(l.want) == 0 {
		return nil
	}
	conn, err := postgres.ConnectLoading(ctx, r.Target)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	l.conn = conn
	s, err := r.openStream(ctx)
	if err != nil {
		return err
	}
	if err := s.failure(ctx, l.load(ctx, dumpsql.NewBlocks(s))); err != nil {
		return err
	}
	return l.makeEmpty(ctx)
}

func (l *streamLoad) load(ctx context.Context, blocks *dumpsql.Blocks) error {
	for {
		b, err := blocks.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if b, err = l.decode(ctx, b); err != nil {
			return err
		}
		k, ok := l.want[b.Table]
		if leaf, alone := l.through[b.Table]; !ok && alone {
			return pgmedic.Errorf(pgmedic.KindUsage, "name that table instead: its rows come with those of its other partitions",
				"the backup holds the rows of %s with those of %s", leaf, b.Table)
		}
		if !ok {
			continue
		}
		if err := l.block(ctx, blocks, k, b); err != nil {
			return err
		}
	}
}

// decode returns a block with its names as the manifest has them: in a dump they
// are in the database's encoding.
func (l *streamLoad) decode(ctx context.Context, b dumpsql.Block) (dumpsql.Block, error) {
	names, err := postgres.Decode(ctx, l.rescue.conn, l.Backup.Database.Encoding, append([]string{b.Table}, b.Columns...))
	if err != nil {
		return b, err
	}
	return dumpsql.Block{Table: names[0], Columns: names[1:]}, nil
}

func (l *streamLoad) block(ctx context.Context, blocks *dumpsql.Blocks, k int, b dumpsql.Block) error {
	columns := make([]pgmedic.Column, len(b.Columns))
	for i, name := range b.Columns {
		columns[i].Name = name
	}
	if err := l.makeStreamed(ctx, k, columns); err != nil {
		return err
	}
	t := l.done.Tables[k]
	l.report(pgmedic.Event{Step: "rows", Object: t.Table})
	_, err := postgres.CopyIn(ctx, l.conn, blocks, snapshot.CopyInSQL(t.As, columns, pgmedic.CopyText, l.Backup.Database.Encoding))
	if cause := blocks.Failure(); cause != nil {
		return cause
	}
	return l.refused(postgres.Wrap(err, "load "+t.As))
}

// makeStreamed makes the k-th table unless it is there. A dump's rows come
// without types: the living table's are taken where it has the column.
func (l *streamLoad) makeStreamed(ctx context.Context, k int, columns []pgmedic.Column) error {
	if _, ok := l.recorded(l.names[k]); ok || l.began[k] {
		return nil
	}
	l.began[k] = true
	live, err := describe(ctx, l.rescue.conn, l.names[k].schema, l.names[k].name)
	if err != nil {
		return err
	}
	typed := slices.Clone(columns)
	for i := range typed {
		typed[i].Type = "text"
		if c, ok := live.column(typed[i].Name); ok {
			typed[i].Type = c.typ
		} else {
			l.done.Tables[k].AsText = append(l.done.Tables[k].AsText, typed[i].Name)
		}
	}
	return l.makeTable(context.WithoutCancel(ctx), k, typed)
}

// makeEmpty makes the tables that the dump does not mention, which can happen where
// there are no rows.
func (l *streamLoad) makeEmpty(ctx context.Context) error {
	for k, n := range l.names {
		if !l.streamed(n) || l.began[k] || l.reused[k] {
			continue
		}
		if _, ok := l.recorded(n); ok {
			continue
		}
		if rows := l.done.Tables[k].Rows; rows > 0 {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the dump holds no rows of %s, the backup recorded %d", n, rows)
		}
		live, err := describe(ctx, l.rescue.conn, n.schema, n.name)
		if err != nil {
			return err
		}
		var columns []pgmedic.Column
		for _, c := range live.columns {
			columns = append(columns, pgmedic.Column{Name: c.name})
		}
		if err := l.makeStreamed(ctx, k, columns); err != nil {
			return err
		}
	}
	return nil
}
