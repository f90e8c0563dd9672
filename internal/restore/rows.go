package restore

import (
	"context"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// rowLoader brings chunks back over several connections.
type rowLoader struct {
	*Session
	progress *progress.Meter

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
	return &rowLoader{Session: s, progress: s.meter("rows", total)}
}

func (l *rowLoader) load(ctx context.Context) error {
	all := pieces(l.Backup, l.jobs())
	queue := make(chan piece, len(all))
	for _, p := range all {
		queue <- p
	}
	close(queue)
	group, groupCtx := errgroup.WithContext(ctx)
	for range min(l.jobs(), max(len(all), 1)) {
		group.Go(func() error { return l.work(groupCtx, queue) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return l.again(ctx)
}

func (l *rowLoader) work(ctx context.Context, queue <-chan piece) error {
	conn, err := connectLoading(ctx, l.Database)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for p := range queue {
		if p.table >= 0 {
			done, err := l.frozen(ctx, conn, p)
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
	err := l.chunk(ctx, conn, c, l.own(c))
	if !refusedContent(err) {
		return err
	}
	for i := range c.Parts {
		if len(c.Parts) > 1 { // which of them was it?
			err = l.chunk(ctx, conn, c, l.alone(c, i, ""))
		}
		switch {
		case refusedContent(err):
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

// connectLoading opens a session that loads: values are computed as in the
// database's own sessions, and its commits need not reach the disk one by one, the
// last of the restore does.
func connectLoading(ctx context.Context, t postgres.Target) (*pgx.Conn, error) {
	conn, err := postgres.ConnectComputing(ctx, t)
	if err != nil {
		return nil, err
	}
	return withCommit(ctx, conn, "off")
}

// again tries the chunks that were refused: with a search_path, for checks and
// domains whose functions need one or read other tables, and through the root,
// for rows that belong into another leaf here. It goes round for as long as any
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
	conn, err := connectLoading(ctx, l.Database)
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
		if err := setPath(ctx, conn, l.retryPath(t.Schema, own)); err != nil {
			return err
		}
		err := l.chunk(ctx, conn, f.chunk, l.alone(f.chunk, f.part, ""))
		if t.RootName != "" && postgres.Code(err) == "23514" {
			err = l.chunk(ctx, conn, f.chunk, l.alone(f.chunk, f.part, sqltext.CountedAs(t)))
		}
		switch {
		case refusedContent(err):
			still = append(still, refusedPart{f.chunk, f.part, err})
		case err != nil:
			return err
		}
	}
	l.failed = still
	return nil
}

// chunk copies the parts of a chunk into the tables named, with a quoted name for
// each part, or none to leave it. All of their rows come, or none.
func (l *rowLoader) chunk(ctx context.Context, conn *pgx.Conn, c pgmedic.Chunk, into []string) error {
	wanted := 0
	for _, table := range into {
		if table != "" {
			wanted++
		}
	}
	passed := &passing{to: l.progress}
	load := func() error { return l.copyChunk(ctx, conn, c, into, passed, snapshot.CopyInSQL) }
	var err error
	if wanted > 1 { // one COPY is atomic by itself
		err = inTransaction(ctx, conn, load)
	} else {
		err = load()
	}
	if err != nil {
		passed.takeBack()
	}
	return err
}

// copyInSQL is postgres.CopyInSQL, or the one for frozen rows.
type copyInSQL func(table string, columns []pgmedic.Column, format pgmedic.CopyFormat, encoding string) string

// copyChunk reads a chunk and copies its parts into the tables named. What of it is
// there after an error is for the transaction to take back.
func (l *rowLoader) copyChunk(ctx context.Context, conn *pgx.Conn, c pgmedic.Chunk, into []string, passed *passing, copyIn copyInSQL) error {
	last := -1
	for i, table := range into {
		if table != "" {
			last = i
		}
	}
	r, err := l.source().OpenChunk(ctx, c)
	if err != nil {
		return err
	}
	load := func() error {
		for i, p := range c.Parts[:last+1] {
			part := &partReader{r: r, left: p.PlainBytes, last: i == last}
			if into[i] == "" {
				if _, err := io.Copy(io.Discard, part); err != nil {
					return err
				}
				continue
			}
			if err := l.part(ctx, conn, p, io.TeeReader(part, passed), into[i], copyIn); err != nil {
				return err
			}
		}
		return nil
	}
	err = load()
	if refusedContent(err) { // for what was written, or because it is damaged: its end tells
		_, _ = io.Copy(io.Discard, r)
	}
	closeErr := r.Close()
	if cause := r.failure(); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	return closeErr
}

// part copies one part into a table. CopyFrom ends the COPY with an error of r's,
// so that a chunk that turns out to be damaged at its end leaves no row.
func (l *rowLoader) part(ctx context.Context, conn *pgx.Conn, p pgmedic.Part, r io.Reader, into string, copyIn copyInSQL) error {
	t := l.Backup.Tables[p.Table]
	l.progress.Object(into)
	tag, err := postgres.CopyIn(ctx, conn, r, copyIn(into, t.Columns, t.Format, l.Backup.Database.Encoding))
	if err != nil {
		return postgres.Wrap(err, "load table "+into)
	}
	if tag.RowsAffected() != p.Rows {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup",
			"a chunk of %s holds %d rows, the manifest says %d", into, tag.RowsAffected(), p.Rows)
	}
	return nil
}

// inTransaction commits what do did, if it did it.
func inTransaction(ctx context.Context, conn *pgx.Conn, do func() error) error {
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return postgres.Wrap(err, "begin to load a chunk")
	}
	if err := do(); err != nil {
		if !conn.IsClosed() {
			_, _ = conn.Exec(ctx, "ROLLBACK") // what went wrong is known
		}
		return err
	}
	_, err := conn.Exec(ctx, "COMMIT")
	return postgres.Wrap(err, "load a chunk")
}

// partReader reads one part of a chunk. The last one that is wanted ends only when
// the chunk has, for nothing of it is believed before.
type partReader struct {
	r    io.Reader
	left int64
	last bool
}

func (p *partReader) Read(b []byte) (int, error) {
	if p.left > 0 {
		n, err := p.r.Read(b[:min(int64(len(b)), p.left)])
		p.left -= int64(n)
		if err == io.EOF { // the chunk's own, which knows its length
			err = io.ErrUnexpectedEOF
			if p.left == 0 {
				err = nil
			}
		}
		return n, err
	}
	if p.last {
		if _, err := io.Copy(io.Discard, p.r); err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}
