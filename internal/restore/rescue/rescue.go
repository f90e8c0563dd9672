// Package rescue brings single tables of a backup back, into a schema of their own
// beside the living ones, with the SQL that compares the two and puts rows back; and
// it drops such schemas when that is asked for.
package rescue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say which tables of a backup are brought back beside the living
// ones. Target names the live database; Into is not used.
type Options struct {
	restore.Options
	// Tables are patterns as psql takes them; each must match at least one table.
	Tables []string
	// FromServer allows a backup of another server or database: it must be the
	// name that the backup is filed under.
	FromServer string
	// DryRun checks everything and makes nothing.
	DryRun bool
	// CompareValues reads the tables back, and compares their rows value by value with
	// what the backup recorded when it read them. Else they are counted.
	CompareValues bool
	// Reuse takes a table that an earlier rescue of this backup brought back as it is there.
	// With CompareValues its rows are compared with what the backup recorded, too. Without
	// Reuse such a table is an error of KindConflict.
	Reuse bool
	// Whole is the command that brings the whole database back beside the live one, for
	// hints; empty means the restore of this backup.
	Whole string
}

// Rescued is what a rescue did, or would do.
type Rescued struct {
	Database string `json:"database"`
	BackupID string `json:"backup_id"`
	// Moment is that of which the tables are, in words, where a cluster was recovered to
	// it; BackupID is then the base backup. Empty means the moment of the backup.
	Moment string `json:"moment,omitempty"`
	// Schema is the new schema in which the tables are, not quoted.
	Schema string `json:"schema"`
	DryRun bool   `json:"dry_run,omitempty"`
	// FetchBytes are read from the store for all tables, StoredBytes is the
	// whole backup.
	FetchBytes  int64   `json:"fetch_bytes"`
	StoredBytes int64   `json:"stored_bytes"`
	Tables      []Table `json:"tables"`
	// Unlogged is true where the tables are not written to the server's log, so
	// that a publication of all tables does not send them out.
	Unlogged bool `json:"unlogged,omitempty"`
	// CleanUp is the SQL that takes all of it away again.
	CleanUp string         `json:"clean_up,omitempty"`
	Seconds float64        `json:"seconds,omitempty"`
	Steps   []pgmedic.Step `json:"steps,omitempty"`
}

// Table is one table that was brought back.
type Table struct {
	// Table is its quoted name in the backup, As that of the copy.
	Table string `json:"table"`
	As    string `json:"as"`
	Rows  int64  `json:"rows"`
	// FetchBytes are read from the store for this table; zero where its rows
	// come out of an object that holds those of other tables as well.
	FetchBytes int64 `json:"fetch_bytes"`
	// AsText are columns whose type the live database does not have, or that
	// the backup does not record.
	AsText []string `json:"columns_as_text,omitempty"`
	// Live is whether the live database has a table of that name, Key its
	// primary key.
	Live bool     `json:"live"`
	Key  []string `json:"key,omitempty"`
	// Compared says how the rows were compared with what the backup recorded: values, or
	// counts; NotByValue says why they were not compared by value though that was asked for.
	Compared   pgmedic.Comparison `json:"compared,omitempty"`
	NotByValue string             `json:"not_by_value,omitempty"`
	// Notes say how the columns of the two differ.
	Notes []string `json:"notes,omitempty"`
	SQL   *SQL     `json:"sql,omitempty"`
}

// SQL is ready to be run. It holds no character that could drive a
// terminal: such ones in names are written as U&"\…".
type SQL struct {
	// Missing selects rows that the backup has and the live table has not, Added
	// the reverse, Changed those with the same key and other contents.
	Missing string `json:"missing"`
	Added   string `json:"added"`
	Changed string `json:"changed,omitempty"`
	// PutBack inserts the missing rows into the live table.
	PutBack string `json:"put_back"`
}

// rescue is a rescue going on.
type rescue struct {
	Options
	steps progress.Steps
	names []tableName
	// conn makes the tables, and holds the lock that prevents two rescues of one backup
	// at the same time.
	conn   *pgx.Conn
	schema string
	// quiet begins each of its transactions that makes or drops something.
	quiet string
	done  *Rescued

	// dump holds the rows that are in no chunk; tool turns an archive into SQL.
	dump pgmedic.Object
	tool pgtool.Tool

	// reused are the tables, by the index of their names, that an earlier rescue made.
	reused     map[int]bool
	unlogged   bool
	madeSchema bool
	began      time.Time // by the server's clock
	made       []string  // quoted tables
}

// Run brings tables back into a schema of their own in the live database,
// from a parallel backup by reading no more than their chunks. Nothing else in
// that database is changed or locked. When it returns an error, what it made is
// gone again; if even that fails the error says so.
func Run(ctx context.Context, o Options) (*Rescued, error) {
	if o.Catalog == nil || o.Backup == nil || o.Logger == nil || o.Now == nil || o.Target.Database() == "" {
		return nil, errors.New("rescue: Catalog, Backup, Target with a database, Logger and Now are required")
	}
	if err := o.Backup.Check(); err != nil {
		return nil, err
	}
	names, err := chooseTables(o.Backup, o.Tables, o.whole())
	if err != nil {
		return nil, err
	}
	began := o.Now()
	r := &rescue{Options: o, steps: progress.Steps{Report: o.Progress, Now: o.Now}, names: names, schema: schemaOf(o.Backup), reused: map[int]bool{}}
	if r.conn, err = postgres.ConnectLocal(ctx, o.Target); err != nil {
		return nil, err
	}
	defer func() { databases.CloseUnlocked(ctx, r.conn) }()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	r.plan()
	if o.DryRun {
		return r.done, r.typesOfChunks(ctx)
	}
	if err := r.run(ctx); err != nil {
		return nil, errors.Join(err, r.drop(ctx))
	}
	r.done.Steps, r.done.Seconds = r.steps.Done, progress.Seconds(o.Now().Sub(began))
	return r.done, nil
}

// whole is Whole, or what it is if empty.
func (o *Options) whole() string {
	return cmp.Or(o.Whole, "pgmedic restore "+o.Backup.ID+" --into NAME")
}

// prepare looks for everything that would stop the rescue halfway, and takes the
// lock.
func (r *rescue) prepare(ctx context.Context) error {
	server, err := postgres.ReadServer(ctx, r.conn)
	if err != nil {
		return err
	}
	if err := databases.RefuseStandby(server); err != nil {
		return err
	}
	if err := r.RefuseOther(server, r.Target.Database(), r.FromServer); err != nil {
		return err
	}
	if superuser, err := postgres.IsSuperuser(ctx, r.conn); err != nil {
		return err
	} else if superuser {
		// The application's event triggers must not fire for our tables.
		r.quiet = postgres.LocalWithoutEventTriggers(r.conn)
	}
	if err := r.readyStream(ctx); err != nil {
		return err
	}
	if err := r.place(ctx); err != nil {
		return err
	}
	return r.sweepDead(ctx)
}

// plan says what will be read.
func (r *rescue) plan() {
	r.done = &Rescued{
		Database: r.Target.Database(), BackupID: r.Backup.ID, Schema: r.schema, DryRun: r.DryRun,
		StoredBytes: r.Backup.StoredBytes(), Unlogged: r.unlogged,
	}
	fetch, wanted := map[int]int64{}, map[int]bool{}
	for _, n := range r.names {
		for _, i := range n.tables {
			wanted[i] = true
		}
	}
	for _, c := range r.Backup.Chunks {
		fetched := false
		for _, p := range c.Parts {
			fetch[p.Table] += c.StoredBytes
			fetched = fetched || wanted[p.Table]
		}
		if fetched { // once, for all tables that are in it
			r.done.FetchBytes += c.StoredBytes
		}
	}
	streamed := false
	for _, n := range r.names {
		t := Table{Table: n.String(), As: sqltext.QuoteQualified(r.schema, n.as)}
		for _, i := range n.tables {
			t.Rows += r.Backup.Tables[i].Rows
			t.FetchBytes += fetch[i]
		}
		streamed = streamed || r.streamed(n)
		r.done.Tables = append(r.done.Tables, t)
	}
	if streamed {
		r.done.FetchBytes += r.dump.StoredBytes
	}
}

// report reports the progress of a step.
func (r *rescue) report(e pgmedic.Event) {
	if r.Progress != nil {
		r.Progress(e)
	}
}

// streamed reports whether rows of a table are in no chunk, but in an object that
// pg_dump wrote and that is read from its beginning to its end.
func (r *rescue) streamed(n tableName) bool {
	return slices.ContainsFunc(n.tables, func(i int) bool { return r.Backup.Tables[i].Format == "" })
}

// recorded returns the table, or one of the partitions, whose columns the backup
// records: that is where its rows are in chunks.
func (r *rescue) recorded(n tableName) (pgmedic.Table, bool) {
	for _, i := range n.tables {
		if t := r.Backup.Tables[i]; t.Format != "" {
			return t, true
		}
	}
	return pgmedic.Table{}, false
}

func (r *rescue) run(ctx context.Context) error {
	if err := r.steps.Do("tables", func() error { return r.makeTables(ctx) }); err != nil {
		return err
	}
	failpoint.Hit(ctx, "rescue-made")
	err := r.steps.Do("rows", func() error {
		if err := r.loadChunks(ctx); err != nil {
			return err
		}
		return r.loadStream(ctx)
	})
	if err != nil {
		return err
	}
	failpoint.Hit(ctx, "rescue-loaded")
	if r.CompareValues {
		if err := r.steps.Do("compare", func() error { return r.compareValues(ctx) }); err != nil {
			return err
		}
	}
	if err := r.steps.Do("check", func() error { return r.finish(ctx) }); err != nil {
		return err
	}
	return r.writeSQL(ctx)
}

// chunkTo is a chunk and the tables that its parts are loaded into.
type chunkTo struct {
	pgmedic.Chunk
	into []string
}

// loadChunks brings the rows back over several connections, the largest chunks
// first, straight from the store.
func (r *rescue) loadChunks(ctx context.Context) error {
	into := map[int]string{}
	for k, n := range r.names {
		if r.reused[k] {
			continue
		}
		for _, i := range n.tables {
			into[i] = r.done.Tables[k].As
		}
	}
	var chunks []chunkTo
	total := int64(0)
	for _, c := range r.Backup.Chunks {
		to, wanted := make([]string, len(c.Parts)), false
		for i, p := range c.Parts {
			if table, ok := into[p.Table]; ok {
				to[i], wanted = table, true
				total += p.PlainBytes
			}
		}
		if wanted {
			chunks = append(chunks, chunkTo{c, to})
		}
	}
	slices.SortStableFunc(chunks, func(a, b chunkTo) int { return cmp.Compare(b.PlainBytes, a.PlainBytes) })
	l := restore.NewChunkLoader(r.Source(), progress.NewMeter(progress.MeterOptions{Step: "rows", TotalBytes: total, Report: r.Progress, Now: r.Now}))
	queue := make(chan chunkTo, len(chunks))
	for _, c := range chunks {
		queue <- c
	}
	close(queue)
	connect := func(ctx context.Context) (*pgx.Conn, error) { return postgres.ConnectLoading(ctx, r.Target) }
	return postgres.Workers(ctx, min(postgres.Jobs(r.Jobs), len(chunks)), connect, func(ctx context.Context, conn *pgx.Conn) error {
		for c := range queue {
			if err := l.Load(ctx, conn, c.Chunk, c.into); err != nil {
				return r.refused(err)
			}
			failpoint.Hit(ctx, "rescue-chunk")
		}
		return nil
	})
}

// refused says what can be done where a type of the live database does not take
// what the backup holds any more.
func (r *rescue) refused(err error) error {
	if !postgres.RefusedContent(err) {
		return err
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "a type has changed since: restore the whole backup beside it, "+r.whole(), "%w", err)
}

// finish counts the rows that came, and writes down that the tables are whole.
// The rows were loaded without waiting for the disk; this commit does, and all
// before it with it.
func (r *rescue) finish(ctx context.Context) error {
	for k, t := range r.done.Tables {
		var n int64
		if err := r.conn.QueryRow(ctx, "SELECT count(*) FROM "+t.As).Scan(&n); err != nil {
			return postgres.Wrap(err, "count the rows of "+t.As)
		}
		if n != t.Rows {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup",
				"%s came back with %s, the backup recorded %s", t.Table, words.Plural(n, "row"), pgmedic.Count(t.Rows))
		}
		if _, err := r.conn.Exec(ctx, "ANALYZE "+t.As); err != nil {
			return postgres.Wrap(err, "analyze "+t.As)
		}
		r.report(pgmedic.Event{Step: "check", Object: t.Table, DoneBytes: int64(k + 1), TotalBytes: int64(len(r.done.Tables))})
	}
	statements := []string{"BEGIN", r.quiet + "SET LOCAL synchronous_commit = local"}
	for _, t := range r.done.Tables {
		comment, err := r.story(t.Table, storyRescued)
		if err != nil {
			return err
		}
		statements = append(statements, "COMMENT ON TABLE "+t.As+" IS "+comment)
	}
	if _, err := r.conn.PgConn().Exec(ctx, strings.Join(append(statements, "COMMIT"), "; ")).ReadAll(); err != nil {
		return postgres.Wrap(err, "finish the rescue")
	}
	r.done.CleanUp = sqltext.Printable("DROP SCHEMA " + sqltext.QuoteIdent(r.schema) + " CASCADE;")
	return nil
}
