package restore

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// rowLoader brings chunks back over several connections.
type rowLoader struct {
	*Session
	chunks *ChunkLoader

	mu     sync.Mutex
	failed []refusedPart // to be tried once more after all others
}

// refusedPart is one part of a chunk whose rows the server refused.
type refusedPart struct {
	chunk pgmedic.Chunk
	part  int
	err   error
}

func newRowLoader(s *Session) *rowLoader {
	total := int64(0)
	for _, c := range s.Backup.Chunks {
		total += c.PlainBytes
	}
	return &rowLoader{Session: s, chunks: NewChunkLoader(s.Source(), s.meter("rows", total))}
}

func (l *rowLoader) load(ctx context.Context) error {
	all := pieces(l.Backup, l.jobs())
	queue := make(chan piece, len(all))
	for _, p := range all {
		queue <- p
	}
	close(queue)
	connect := func(ctx context.Context) (*pgx.Conn, error) { return postgres.ConnectLoading(ctx, l.Database) }
	work := func(ctx context.Context, conn *pgx.Conn) error { return l.work(ctx, conn, queue) }
	if err := postgres.Workers(ctx, min(l.jobs(), max(len(all), 1)), connect, work); err != nil {
		return err
	}
	return l.again(ctx)
}

func (l *rowLoader) work(ctx context.Context, conn *pgx.Conn, queue <-chan piece) error {
	for p := range queue {
		if p.table >= 0 {
			done, err := l.chunks.frozen(ctx, conn, p)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		for _, c := range p.chunks {
			if err := l.eachOnce(ctx, conn, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachOnce loads a chunk, and leaves for later what the server refuses of it.
func (l *rowLoader) eachOnce(ctx context.Context, conn *pgx.Conn, c pgmedic.Chunk) error {
	err := l.chunks.Load(ctx, conn, c, l.own(c))
	if !postgres.RefusedContent(err) {
		return err
	}
	for i := range c.Parts {
		if len(c.Parts) > 1 { // which of them was it?
			err = l.chunks.Load(ctx, conn, c, l.alone(c, i, ""))
		}
		switch {
		case postgres.RefusedContent(err):
			l.mu.Lock()
			l.failed = append(l.failed, refusedPart{c, i, err})
			l.mu.Unlock()
		case err != nil:
			return err
		}
	}
	return nil
}

// own returns the quoted names of the tables that a chunk is of, part by part.
func (l *rowLoader) own(c pgmedic.Chunk) []string {
	into := make([]string, len(c.Parts))
	for i, p := range c.Parts {
		t := l.Backup.Tables[p.Table]
		into[i] = sqltext.QuoteQualified(t.Schema, t.Name)
	}
	return into
}

// alone is own for one part, which goes into the table named, if one is.
func (l *rowLoader) alone(c pgmedic.Chunk, part int, table string) []string {
	into := make([]string, len(c.Parts))
	if into[part] = table; table == "" {
		into[part] = l.own(c)[part]
	}
	return into
}

// again tries the chunks that were refused: with a search_path, for checks and
// domains whose functions need one or read other tables, and through the root,
// for rows that belong in another leaf here. It repeats this as long as any
// goes in, since a check may read a table that another one kept out. What stays
// refused is noted.
func (l *rowLoader) again(ctx context.Context) error {
	for before := -1; len(l.failed) > 0 && len(l.failed) != before; {
		before = len(l.failed)
		if err := l.againOnce(ctx); err != nil {
			return err
		}
	}
	rows, why := map[dumpsql.Entry]int64{}, map[dumpsql.Entry]error{}
	var tables []dumpsql.Entry
	for _, f := range l.failed {
		p := f.chunk.Parts[f.part]
		t := l.Backup.Tables[p.Table]
		entry := dumpsql.Entry{Type: "TABLE DATA", Schema: t.Schema, Name: t.Name}
		if why[entry] == nil {
			tables, why[entry] = append(tables, entry), f.err
		}
		rows[entry] += p.Rows
	}
	for _, entry := range tables {
		l.refuse(entry, entry.String(), rows[entry], why[entry])
	}
	return nil
}

// againOnce tries each chunk that was refused once more, and keeps those that are
// still refused, with the reason.
func (l *rowLoader) againOnce(ctx context.Context) error {
	conn, err := postgres.ConnectLoading(ctx, l.Database)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	own, err := postgres.ReadOwnPath(ctx, conn)
	if err != nil {
		return err
	}
	var still []refusedPart
	for _, f := range l.failed {
		t := l.Backup.Tables[f.chunk.Parts[f.part].Table]
		if err := postgres.SetPath(ctx, conn, l.retryPath(t.Schema, own)); err != nil {
			return err
		}
		err := l.chunks.Load(ctx, conn, f.chunk, l.alone(f.chunk, f.part, ""))
		if t.RootName != "" && postgres.Code(err) == "23514" {
			err = l.chunks.Load(ctx, conn, f.chunk, l.alone(f.chunk, f.part, sqltext.CountedAs(t)))
		}
		switch {
		case postgres.RefusedContent(err):
			still = append(still, refusedPart{f.chunk, f.part, err})
		case err != nil:
			return err
		}
	}
	l.failed = still
	return nil
}

// meter reports a step's bytes as progress.
func (s *Session) meter(step string, total int64) *progress.Meter {
	return progress.NewMeter(progress.MeterOptions{Step: step, TotalBytes: total, Report: s.Progress, Now: s.Now})
}
