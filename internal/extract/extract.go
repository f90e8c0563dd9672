// Package extract takes one database of a cluster, or some of its tables, as of a moment:
// the cluster is recovered in a private server, and what is wanted of it is backed up into
// a throwaway store, from which a restore brings it back like any other backup.
package extract

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/replay"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/store"
)

// Options say what is taken, and as of when. Step, Progress, Logger and Now of Replay are
// those of Options.
type Options struct {
	Replay replay.Options
	// Database is the one that is taken, and Tables are patterns of those of its tables
	// that are; without any it is all of them.
	Database string
	Tables   []string
	// Definitions takes the definitions of all tables, with rows of Tables alone: what refers
	// to those tables, and what was made of them, is in definitions of others.
	Definitions bool
	// SkipRoom takes it without having checked that the tables have room beside the cluster.
	SkipRoom bool
	// Moment is what the moment is called in errors.
	Moment string
	// Tools finds the client programs, and Jobs is how many connections read; zero means
	// one for each processor.
	Tools pgtool.Finder
	Jobs  int
	// Host and Version go into the manifest.
	Host, Version string
	Progress      func(pgmedic.Event)
	Logger        *slog.Logger
	Now           func() time.Time
}

// Taken is what was taken: a backup in a catalogue of its own, which Close removes.
type Taken struct {
	Catalog *catalog.Catalog
	Backup  *pgmedic.Backup
	Key     *seal.Key
	// ReplaySeconds is how long it took until the cluster was recovered and open.
	ReplaySeconds float64
	Steps         []pgmedic.Step

	server *scratch.Server
}

// Close removes the throwaway server with all that was taken out of it.
func (t *Taken) Close(ctx context.Context) error {
	if err := t.server.Stop(ctx); err != nil {
		return fmt.Errorf("remove the throwaway server: %w", err)
	}
	return nil
}

// Take recovers the cluster in a private server, holds how far the recovery got against
// the plan, and takes what is wanted out of it. The caller closes what it returns. After
// an error nothing is left. A database or a table that did not exist at the moment is a
// pgmedic.KindNotFound error.
func Take(ctx context.Context, o Options) (_ *Taken, err error) {
	steps := progress.Steps{Report: o.Progress, Now: o.Now}
	r := &replay.Replay{Options: o.Replay}
	r.Step, r.Progress, r.Logger, r.Now = steps.Do, o.Progress, o.Logger, o.Now
	began := o.Now()
	server, err := r.Start(ctx)
	if err != nil {
		return nil, fmt.Errorf("recover the cluster to %s: %w", o.Moment, err)
	}
	t := &Taken{server: server, ReplaySeconds: progress.Seconds(o.Now().Sub(began))}
	taken := false
	defer func() {
		if !taken { // also of a panic
			err = errors.Join(err, t.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := r.Log.Compare(o.Replay.Plan); err != nil {
		return nil, fmt.Errorf("recover the cluster to %s: %w", o.Moment, err)
	}
	failpoint.Hit(ctx, "extract-recovered")
	err = t.take(ctx, o)
	if overrun := server.Overrun(); overrun != nil {
		err = overrun
	}
	if err != nil {
		return nil, err
	}
	failpoint.Hit(ctx, "extract-taken")
	server.Halt(ctx)
	t.Steps = steps.Done
	taken = true
	return t, nil
}

// take backs up what is wanted.
func (t *Taken) take(ctx context.Context, o Options) error {
	target, err := postgres.ParseTarget(t.server.DSN(replay.ConnectDatabase))
	if err != nil {
		return err
	}
	// The server asks for no password. What runs in it could, and must not get one from the
	// environment or from a password file.
	target = target.With("password", "none").With("options", scratch.SessionOptions(t.server.Major()))
	if err := o.openDatabase(ctx, target); err != nil {
		return err
	}
	target = target.WithDatabase(o.Database)
	patterns, bytes, err := o.prepare(ctx, target)
	if err != nil {
		return err
	}
	dir, err := t.server.TakenDir()
	if err != nil {
		return err
	}
	if !o.SkipRoom {
		if err := checkRoom(dir, bytes); err != nil {
			return err
		}
	}
	local, err := store.NewLocal(store.LocalOptions{Dir: dir, Logger: o.Logger})
	if err != nil {
		return err
	}
	// Sealed with a key that is in this process's memory alone: what a killed run leaves
	// can't be read, and what is changed in the store is noticed.
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make a key for what is taken: %w", err)
	}
	t.Catalog = catalog.New(local)
	t.Backup, err = backup.Take(ctx, backup.Options{
		Target: target, Locked: true, // the server is this process's alone
		ServerName: o.Replay.Plan.Server, Catalog: t.Catalog, Method: backup.Parallel{Jobs: o.Jobs}, Tools: o.Tools,
		Seal: seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge}, Wraps: []seal.Wrap{{Name: "memory", To: identity.Recipient()}},
		Patterns: patterns, Host: o.Host, Version: o.Version, Progress: o.Progress, Logger: o.Logger, Now: o.Now,
	})
	if err != nil {
		return fmt.Errorf("take it out of the cluster as of %s: %w", o.Moment, err)
	}
	if settings := o.Replay.Source.Backup.Server.Settings; len(settings) > 0 {
		t.Backup.Server.Settings = settings // those of the throwaway server are its own
	}
	return t.openKey(ctx, identity)
}

// openKey opens the key of the backup.
func (t *Taken) openKey(ctx context.Context, with age.Identity) error {
	for w, err := range t.Catalog.EachKey(ctx, t.Backup) {
		if err != nil {
			return err
		}
		t.Key, err = seal.OpenKey(w.Data, []age.Identity{with})
		return err
	}
	return errors.New("open what was taken: its key is not there")
}

// openDatabase looks that the database existed at the moment, and lets it take connections.
func (o Options) openDatabase(ctx context.Context, target postgres.Target) error {
	conn, err := postgres.Connect(ctx, target)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindFailed, "the role is the one that initdb made; if it may not log in, nothing can be taken out of the recovered server", "connect to the recovered server: %w", err)
	}
	defer postgres.Close(ctx, conn)
	type database struct {
		Name          string
		Open, Dropped bool
	}
	// What was being dropped can be dropped only (datconnlimit -2).
	rows, err := conn.Query(ctx, "SELECT datname::text, datallowconn, datconnlimit = -2 FROM pg_catalog.pg_database ORDER BY oid")
	if err != nil {
		return postgres.Wrap(err, "list the databases")
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[database])
	if err != nil {
		return postgres.Wrap(err, "list the databases")
	}
	var names []string
	for _, d := range all {
		switch {
		case d.Name == o.Database && d.Dropped:
			return pgmedic.Errorf(pgmedic.KindNotFound, "name an earlier moment", "database %s was being dropped at %s", sqltext.QuoteIdent(o.Database), o.Moment)
		case d.Name == o.Database && d.Open:
			return nil
		case d.Name == o.Database:
			_, err := conn.Exec(ctx, "ALTER DATABASE "+sqltext.QuoteIdent(d.Name)+" ALLOW_CONNECTIONS true")
			return postgres.Wrap(err, "open database "+sqltext.QuoteIdent(d.Name)+" of the copy")
		case !strings.HasPrefix(d.Name, "template"):
			names = append(names, sqltext.QuoteIdent(d.Name))
		}
	}
	return pgmedic.Errorf(pgmedic.KindNotFound, "name another moment, or another database with --database; there were: "+few(names),
		"there was no database %s at %s", sqltext.QuoteIdent(o.Database), o.Moment)
}

// few lists names, and how many more there are.
func few(names []string) string {
	const most = 10
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// relation is a table of the database, with that of which it is a part.
type relation struct {
	OID          uint32
	Schema, Name string
	Parents      []uint32
	Unlogged     bool
	Partitioned  bool
	// Bytes is its size without indexes.
	Bytes int64
}

func (r relation) String() string { return sqltext.QuoteQualified(r.Schema, r.Name) }

// prepare makes the database one that can be read, and returns the tables that the
// patterns name, with all of their parts, as patterns of one table each; or those of which
// no rows are taken. The size is that of what is taken.
func (o Options) prepare(ctx context.Context, target postgres.Target) (p snapshot.Patterns, size int64, err error) {
	conn, err := postgres.Connect(ctx, target)
	if err != nil {
		return p, 0, err
	}
	defer postgres.Close(ctx, conn)
	n, err := replay.RollBackPrepared(ctx, conn)
	if err != nil {
		return p, 0, err
	}
	if n > 0 {
		o.Logger.Warn("transactions were prepared, and neither committed nor rolled back at this moment: what they did is not taken", "transactions", n)
	}
	rows, err := conn.Query(ctx, `SELECT c.oid, n.nspname::text, c.relname::text, ARRAY(SELECT i.inhparent FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid AND c.relispartition),
	c.relkind = 'r' AND c.relpersistence = 'u', c.relkind = 'p', pg_catalog.pg_table_size(c.oid)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 2, 3`)
	if err != nil {
		return p, 0, postgres.Wrap(err, "list the tables")
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		return p, 0, postgres.Wrap(err, "list the tables")
	}
	chosen, others, err := choose(all, o)
	if err != nil {
		return p, 0, err
	}
	var empty []string
	for _, r := range chosen {
		if r.Unlogged {
			empty = append(empty, r.String())
		}
	}
	if len(empty) > 0 {
		o.Logger.Warn("unlogged tables come back empty: neither base backups nor WAL have their rows", "tables", few(empty))
	}
	size = sizeOf(chosen)
	if len(o.Tables) == 0 {
		var objects int64
		err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_table_size('pg_catalog.pg_largeobject'::pg_catalog.regclass)").Scan(&objects)
		return p, size + objects, postgres.Wrap(err, "read the size of the large objects")
	}
	bytes := 0
	for _, r := range others {
		bytes += len(r.String()) + argumentSpare
	}
	if bytes > maxLeftOut {
		return p, sizeOf(all), nil // all is taken, and of that the tables are restored
	}
	for _, r := range others {
		if o.Definitions && !r.Partitioned { // of those that are, the parts have the rows
			p.ExcludeTableData = append(p.ExcludeTableData, r.String())
		}
	}
	for _, r := range chosen {
		if !o.Definitions {
			p.Tables = append(p.Tables, r.String())
		}
	}
	return p, size, nil
}

func sizeOf(all []relation) (bytes int64) {
	for _, r := range all {
		bytes += r.Bytes
	}
	return bytes
}

const (
	// maxLeftOut bounds, in bytes, the names of the tables that are not taken: pg_dump gets
	// each as an argument, and a system bounds those (a backup at 1 MiB).
	maxLeftOut = 1 << 19
	// argumentSpare is what an argument has besides a name.
	argumentSpare = 24
)

// choose returns the tables that the patterns name, with their partitions, and all others.
// Without patterns all are chosen.
func choose(all []relation, o Options) (chosen, others []relation, err error) {
	taken := map[uint32]bool{}
	for _, text := range o.Tables {
		p, err := sqltext.ParseTablePattern(text)
		if err != nil {
			return nil, nil, fmt.Errorf("--table: %w", err)
		}
		matches, err := p.Matcher()
		if err != nil {
			return nil, nil, fmt.Errorf("--table: %w", err)
		}
		found := false
		for _, r := range all {
			if matches(r.Schema, r.Name) {
				taken[r.OID], found = true, true
			}
		}
		if !found {
			return nil, nil, pgmedic.Errorf(pgmedic.KindNotFound, "check its spelling, or name another moment: one before it was dropped, or after it was made",
				"there was no table %s in database %s at %s", text, sqltext.QuoteIdent(o.Database), o.Moment)
		}
	}
	for grown := true; grown; {
		grown = false
		for _, r := range all {
			if !taken[r.OID] && slices.ContainsFunc(r.Parents, func(p uint32) bool { return taken[p] }) {
				taken[r.OID], grown = true, true
			}
		}
	}
	for _, r := range all {
		if taken[r.OID] || len(o.Tables) == 0 {
			chosen = append(chosen, r)
		} else {
			others = append(others, r)
		}
	}
	return chosen, others, nil
}
