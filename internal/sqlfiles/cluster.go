// Package sqlfiles reads the files of a cluster by SQL functions, over several sessions at once:
// a base backup on another way than the server's own stream of it. What is read, and what is left
// out, is the same (basebackup.c). It reads more of the server's processors for each byte, and can
// leave out single files.
package sqlfiles

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Options say of which server the files are.
type Options struct {
	// Target is a primary, with a database.
	Target postgres.Target
	// Sessions is how many read at once, at least 1. One more holds the backup.
	Sessions int
}

// Cluster is a server whose files are read. It is not safe for concurrent use.
type Cluster struct {
	// conn holds the backup: if it ends, so does that. It lists folders, too.
	conn    *pgx.Conn
	readers []*pgx.Conn
	facts   facts
	// version is the name of the folder that the cluster has in those of tablespaces.
	version string
	start   Start
}

// facts are what a session says of its server.
type facts struct {
	Started  time.Time
	Version  int
	Mode     string
	Standby  bool
	Role     string
	Database string
}

// Open connects. A role that may not call the functions, and a standby, are a pgmedic.KindUsage
// error.
func Open(ctx context.Context, o Options) (_ *Cluster, err error) {
	c := &Cluster{}
	defer func() {
		if err != nil {
			c.Close(ctx)
		}
	}()
	for i := range o.Sessions + 1 {
		conn, err := postgres.Connect(ctx, o.Target)
		if postgres.Code(err) == postgres.TooManyConnections && i > 1 {
			break // those that there are read all of it
		} else if err != nil {
			return nil, err
		}
		if i == 0 {
			c.conn = conn
		} else {
			c.readers = append(c.readers, conn)
		}
		if i == 0 {
			if c.facts, err = check(ctx, conn); err != nil {
				return nil, err
			}
			continue
		}
		f, err := readFacts(ctx, conn)
		switch {
		case err != nil:
			return nil, err
		case !f.Started.Equal(c.facts.Started) || f.Standby:
			return nil, pgmedic.Errorf(pgmedic.KindConflict, "name one server in the connection URL", "two connections led to two servers")
		}
	}
	return c, nil
}

// Close ends the sessions, and with them a backup that has not ended.
func (c *Cluster) Close(ctx context.Context) {
	for _, conn := range append(c.readers, c.conn) {
		if conn != nil {
			postgres.Close(ctx, conn)
		}
	}
}

// StartedAt is when the server's first process began, to the microsecond.
func (c *Cluster) StartedAt() time.Time { return c.facts.Started }

// readFacts asks, and has names of files come as the bytes that they are.
func readFacts(ctx context.Context, conn *pgx.Conn) (f facts, err error) {
	err = conn.QueryRow(ctx, `
SELECT pg_catalog.pg_postmaster_start_time(), pg_catalog.current_setting('server_version_num')::int, pg_catalog.current_setting('data_directory_mode'),
	pg_catalog.pg_is_in_recovery(), current_user::text, pg_catalog.current_database()::text`).
		Scan(&f.Started, &f.Version, &f.Mode, &f.Standby, &f.Role, &f.Database)
	if err == nil {
		_, err = conn.Exec(ctx, "SET client_encoding = 'SQL_ASCII'")
	}
	return f, postgres.Wrap(err, "read what the server is")
}

// functions are what is called, by the server's version.
func functions(version int) []string {
	own := []string{"pg_catalog.pg_start_backup(text, boolean, boolean)", "pg_catalog.pg_stop_backup(boolean, boolean)"}
	if version >= 150000 {
		own = []string{"pg_catalog.pg_backup_start(text, boolean)", "pg_catalog.pg_backup_stop(boolean)"}
	}
	return append(own, "pg_catalog.pg_ls_dir(text, boolean, boolean)", "pg_catalog.pg_stat_file(text, boolean)", "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)")
}

// Check returns an error of pgmedic.KindUsage where the files can't be read by a session's role: it
// has the GRANT that the role lacks, or the server is a standby.
func Check(ctx context.Context, conn *pgx.Conn) error {
	_, err := check(ctx, conn)
	return err
}

func check(ctx context.Context, conn *pgx.Conn) (facts, error) {
	f, err := readFacts(ctx, conn)
	if err == nil && f.Standby {
		err = pgmedic.Errorf(pgmedic.KindUsage, "name the primary, or leave out --reader sql", "the server is a standby, whose files are not read by SQL")
	}
	if err == nil {
		err = f.grants(ctx, conn)
	}
	return f, err
}

// grants returns an error where the role may not call a function.
func (f facts) grants(ctx context.Context, conn *pgx.Conn) error {
	missing, err := postgres.CollectScalar[string](ctx, conn, `
SELECT f FROM pg_catalog.unnest($1::text[]) AS f WHERE NOT pg_catalog.has_function_privilege(f, 'EXECUTE')`, functions(f.Version))
	if err != nil {
		return postgres.Wrap(err, "read which functions the role may call")
	}
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, function := range missing {
		name, _, _ := strings.Cut(strings.TrimPrefix(function, "pg_catalog."), "(")
		names = append(names, name)
	}
	return pgmedic.Errorf(pgmedic.KindUsage, fmt.Sprintf("let a superuser run in database %s: GRANT EXECUTE ON FUNCTION %s TO %s;",
		sqltext.QuoteIdent(f.Database), strings.Join(missing, ", "), sqltext.QuoteIdent(f.Role)),
		"role %s may not read the server's files by SQL: it may not call %s", sqltext.QuoteIdent(f.Role), strings.Join(names, ", "))
}

// mode returns the permission bits of files and folders, which the server gives to all of its own:
// no function says them of a single one.
func (f facts) mode(folder bool) fs.FileMode {
	bits, err := strconv.ParseUint(f.Mode, 8, 32)
	mode := fs.FileMode(bits) & fs.ModePerm
	if err != nil || mode == 0 {
		mode = 0o700
	}
	if !folder {
		mode &^= 0o111
	}
	return mode
}

// Start is where a backup begins.
type Start struct {
	LSN wal.LSN
	// ClockAt is a moment by the server's clock before the checkpoint that the
	// backup begins with. It is zero where the times of files are not of that clock, as they can be on
	// a network file system, and where it is before the server started.
	ClockAt time.Time
	// Tablespaces are those outside of the data directory, by their OIDs.
	Tablespaces []Tablespace
	// SizeBytes is an estimate of all files.
	SizeBytes int64
}

// Tablespace is one outside of the data directory.
type Tablespace struct {
	OID      uint32
	Location string
}

// clockLag is how much older than the server's clock pg_control can be once the checkpoint that
// wrote it at its end is over: as long as a busy server may take to say so.
const clockLag = 30 * time.Second

// margin is how much older than a backup a file must be to be known by its times, in seconds: two
// for the resolution of times in the worst case (the functions say whole seconds, FAT has even
// ones), and one because the kernel's clock for files is some milliseconds late.
const margin = 3

// Unchanged reports whether a file that had these times when it was listed for a backup has the
// bytes which that backup read, if it has the same times and the same size now and the server's
// first process is the same. clockAt is Start.ClockAt of that backup; all are seconds since 1970.
//
// It is right because a write gives a file the time at which it begins: what is written later has
// a later time. A write that began behind clockAt gave the file a time that differs from one that is
// older by the margin. A write that began before had ended before the backup read anything, however
// long the kernel took: the checkpoint of the backup waits for writes of pages that are on their
// way. (Pages that the server does not hold in its buffers, as of a new index, are the exception;
// such a write would have to take longer than the margin and the checkpoint.) The time at which
// the inode was changed can't be set, so that a file which was put there with the times of another
// one is another.
//
// That what is on the disk is enough for a backup is as for any file that it reads: pages that
// the server had changed before the backup began were written by its checkpoint, which changes the
// times, and pages that it changes later are in the WAL that is replayed.
func Unchanged(modifiedAt, changedAt, clockAt int64) bool {
	return max(modifiedAt, changedAt)+margin <= clockAt
}

// Begin begins a backup, with a checkpoint, at once or at the server's pace.
func (c *Cluster) Begin(ctx context.Context, label string, fast bool) (Start, error) {
	sql := "SELECT pg_catalog.pg_start_backup($1, $2, false)::text"
	if c.facts.Version >= 150000 {
		sql = "SELECT pg_catalog.pg_backup_start($1, $2)::text"
	}
	var lsn string
	var before time.Time
	if err := c.conn.QueryRow(ctx, "SELECT pg_catalog.clock_timestamp()").Scan(&before); err != nil {
		return Start{}, lost(ctx, err, "read the server's clock")
	}
	if err := c.conn.QueryRow(ctx, sql, label, fast).Scan(&lsn); err != nil {
		return Start{}, lost(ctx, err, "begin a base backup")
	}
	var err error
	if c.start.LSN, err = wal.ParseLSN(lsn); err != nil {
		return Start{}, err
	}
	if err := c.readClock(ctx, before); err != nil {
		return Start{}, err
	}
	control, err := c.readControl(ctx)
	if err != nil {
		return Start{}, err
	}
	parsed, err := pgdata.ParseControl(control)
	if err != nil {
		return Start{}, err
	}
	c.version = fmt.Sprintf("PG_%d_%d", c.facts.Version/10000, parsed.CatalogVersion)
	if err := c.readTablespaces(ctx); err != nil {
		return Start{}, err
	}
	err = c.conn.QueryRow(ctx, `
SELECT coalesce(pg_catalog.sum(pg_catalog.pg_database_size(oid)) FILTER (WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')), 0)::bigint FROM pg_catalog.pg_database`).
		Scan(&c.start.SizeBytes)
	if ctx.Err() != nil {
		return Start{}, context.Cause(ctx)
	}
	if err != nil {
		c.start.SizeBytes = 0 // a database was dropped meanwhile, or hides its size: an estimate only
	}
	return c.start, nil
}

// readClock holds the clock of files against that of the server: the checkpoint has written
// pg_control since a moment.
func (c *Cluster) readClock(ctx context.Context, before time.Time) error {
	var now, written time.Time
	err := c.conn.QueryRow(ctx, "SELECT pg_catalog.clock_timestamp(), modification FROM pg_catalog.pg_stat_file($1, false)", pgdata.ControlPath).Scan(&now, &written)
	if err != nil {
		return lost(ctx, err, "read the server's clock")
	}
	if sameClock(c.facts.Started, before, written, now) {
		c.start.ClockAt = before.UTC()
	}
	return nil
}

// sameClock reports whether the server's clock says when files are written. A file was, between
// before and now. A clock that is earlier than when the server started was set back since.
func sameClock(started, before, written, now time.Time) bool {
	// The function says whole seconds, of a clock that is some milliseconds late.
	return before.After(started) && !written.Before(before.Truncate(time.Second).Add(-time.Second)) && !written.After(now) && now.Sub(written) <= clockLag
}

// readTablespaces finds the tablespaces as the backup's start does, by the folder of their links:
// those that are made later are in the WAL.
func (c *Cluster) readTablespaces(ctx context.Context) error {
	rows, err := postgres.Collect[Tablespace](ctx, c.conn, `
SELECT f::oid AS oid, pg_catalog.pg_tablespace_location(f::oid) AS location FROM pg_catalog.pg_ls_dir('pg_tblspc', true, false) AS f WHERE f ~ '^[0-9]{1,10}$' ORDER BY f::oid`)
	c.start.Tablespaces = rows
	return lost(ctx, err, "read where the tablespaces are")
}

// End is the end of a backup.
type End struct {
	LSN wal.LSN
	// Control is pg_control, which was read behind all other files, Label and Map are backup_label
	// and tablespace_map; without tablespaces the latter is empty.
	Control, Label, Map []byte
}

// End ends the backup, once Files has returned.
func (c *Cluster) End(ctx context.Context) (e End, err error) {
	if e.Control, err = c.readControl(ctx); err != nil {
		return e, err
	}
	sql := "SELECT lsn::text, labelfile, coalesce(spcmapfile, '') FROM pg_catalog.pg_stop_backup(false, false)"
	if c.facts.Version >= 150000 {
		sql = "SELECT lsn::text, labelfile, coalesce(spcmapfile, '') FROM pg_catalog.pg_backup_stop(false)"
	}
	var lsn, label, spaces string
	if err := c.conn.QueryRow(ctx, sql).Scan(&lsn, &label, &spaces); err != nil {
		return e, lost(ctx, err, "end the base backup")
	}
	if e.LSN, err = wal.ParseLSN(lsn); err != nil {
		return e, err
	}
	e.Label, e.Map = []byte(label), []byte(spaces)
	if !slices.Equal(mapped(spaces), c.oids()) {
		return e, pgmedic.Errorf(pgmedic.KindFailed, "run it again", "a tablespace was made or dropped at the moment at which the backup began")
	}
	return e, nil
}

func (c *Cluster) oids() (all []string) {
	for _, t := range c.start.Tablespaces {
		all = append(all, strconv.FormatUint(uint64(t.OID), 10))
	}
	slices.Sort(all)
	return all
}

// mapped returns the OIDs of a tablespace_map, sorted as text. A line break in a path is behind a
// backslash.
func mapped(text string) (all []string) {
	text = strings.NewReplacer("\\\\", "", "\\\n", "", "\\\r", "").Replace(text)
	for line := range strings.SplitSeq(text, "\n") {
		if oid, _, ok := strings.Cut(line, " "); ok {
			all = append(all, oid)
		}
	}
	slices.Sort(all)
	return all
}

// readControl reads pg_control until it has its own checksum: the server may be writing it.
func (c *Cluster) readControl(ctx context.Context) (b []byte, err error) {
	const tries, pause = 40, 50 * time.Millisecond
	for try := 1; ; try++ {
		err := c.conn.QueryRow(ctx, "SELECT pg_catalog.pg_read_binary_file($1, 0, $2, false)", pgdata.ControlPath, int64(pgdata.ControlBytes)).Scan(&b)
		if err != nil {
			return nil, lost(ctx, err, "read pg_control")
		}
		if _, err = pgdata.ParseControl(b); err == nil && len(b) == pgdata.ControlBytes {
			return b, nil
		}
		if try == tries {
			return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "see whether the server's disk is sound, and run it again", "the server has a damaged pg_control: %w", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

// codeNotText is character_not_in_repertoire.
const codeNotText = "22021"

// lost wraps a server's error, unless the run was ended.
func lost(ctx context.Context, err error, attempted string) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if postgres.Code(err) == codeNotText {
		return pgmedic.Errorf(pgmedic.KindUsage, "rename it, connect to a database that is encoded in SQL_ASCII, or leave out --reader sql",
			"the data directory has a file whose name is not text in the encoding of the database that pgmedic is connected to")
	}
	return postgres.Wrap(err, attempted)
}
