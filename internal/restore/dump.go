package restore

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/amcheck"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Dump is one that another program made, restored in place of a backup. It has no
// manifest: nothing is recorded that the copy could be compared with. Required: Name,
// Open, Check.
type Dump struct {
	// Name is its path or address, for people.
	Name string
	// Open returns its SQL, the same each time it is called. Its EOF says that it was read
	// to its end and is whole.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Check is called with each statement before it is run: true leaves it out, an
	// error ends the restore.
	Check func(*dumpsql.Statement) (leaveOut bool, err error)
	// Connects and Part are those of dumpsql.Script: what pg_dump -C and pg_dumpall
	// write is allowed, and the database whose part is restored.
	Connects bool
	Part     string
	// Checks are those of the file, made before anything is restored.
	Checks []pgmedic.Check
	// SkipAmcheck is why amcheck is left out; empty means that it is not.
	SkipAmcheck string
	// ModifiedAt is when it was written, and Server the version of the server that it
	// is of, if known. SHA256 is of the file, in hex; empty for a folder.
	ModifiedAt  time.Time
	Server      string
	SHA256      string
	StoredBytes int64
}

// Staging makes a private folder for files that client programs read, and sweeps those
// that dead processes left. The caller calls remove.
func Staging() (dir string, remove func(), err error) { return makeStaging() }

// script filters the dump's SQL.
func (d *Dump) script(r io.Reader) *dumpsql.Script {
	s := dumpsql.NewScript(r)
	s.Connects, s.Database = d.Connects, d.Part
	return s
}

// describe says what a psql command means here, if the script has one of those that
// pg_dump -C and pg_dumpall write.
func (d *Dump) describe(err error) error {
	var command *dumpsql.CommandError
	if !errors.As(err, &command) || command.Name != `\connect` {
		return err
	}
	hint := "pg_dump -C writes it: --allow-connect restores such a dump, and leaves out what it says of the database as a whole"
	if d.Connects {
		hint = "a dump of pg_dump -C names one database: find out who wrote this one"
	}
	return pgmedic.Errorf(pgmedic.KindIntegrity, hint, "%w", err)
}

// errFound ends the reading of a dump's beginning.
var errFound = errors.New("found")

// encodingStatement is what pg_dump writes in the first lines.
var encodingStatement = regexp.MustCompile(`\A(?:\s*--[^\n]*\n)*\s*SET client_encoding = '([A-Za-z0-9_]+)';\s*\z`)

// encoding reads the beginning of the dump, or of its part, and returns the encoding
// that it is in, which is that of its database unless pg_dump was told another. It is
// UTF8 where the dump does not say.
func (d *Dump) encoding(ctx context.Context) (encoding string, err error) {
	r, err := d.Open(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }() // only read
	const first = 40
	s := d.script(r)
	err = dumpsql.EachStatement(s, func(st *dumpsql.Statement) error {
		if m := encodingStatement.FindStringSubmatch(st.SQL); m != nil {
			encoding = m[1]
			return errFound
		}
		if st.Number > first {
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return "", d.describe(err)
	}
	if d.Part != "" && !s.Found() {
		return "", pgmedic.Errorf(pgmedic.KindNotFound, "name one that it has: grep '^.connect' shows them",
			"%s has no database %q", d.Name, d.Part)
	}
	return cmp.Or(encoding, "UTF8"), nil
}

// globals are the roles and tablespaces of a dump of pg_dumpall.
func (d *Dump) globals(ctx context.Context) (script dumpsql.GlobalsScript, err error) {
	r, err := d.Open(ctx)
	if err != nil {
		return script, err
	}
	defer func() { _ = r.Close() }() // only read, and not to its end
	script, err = dumpsql.ReadClusterGlobals(r)
	if err == nil && len(script.Statements) == 0 {
		err = pgmedic.Errorf(pgmedic.KindNotFound, "leave --globals out", "%s has no roles and no tablespaces", d.Name)
	}
	if err != nil {
		return script, fmt.Errorf("read the roles of the dump: %w", err)
	}
	return script, nil
}

// Describe returns the backup that stands for a dump while it is restored. The new
// database is to have the owner, the locale, the settings and the rights of the
// database live, if that is not empty and there: a dump does not say them. Else it
// is the restoring role's, with the locale of template1 and the dump's encoding.
func (d *Dump) Describe(ctx context.Context, o Options, live string) (*pgmedic.Backup, error) {
	encoding, err := d.encoding(ctx)
	if err != nil {
		return nil, err
	}
	o.Maintenance = cmp.Or(o.Maintenance, postgres.DefaultMaintenance)
	conn, err := postgres.Connect(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := warnSuperuser(ctx, conn, o); err != nil {
		return nil, err
	}
	at := d.ModifiedAt.UTC().Truncate(time.Second)
	if at.Year() < 2000 || at.Year() > 9000 {
		at = o.Now().UTC().Truncate(time.Second)
	}
	b := &pgmedic.Backup{
		Format: pgmedic.ManifestFormat, ID: at.Format("20060102T150405Z") + "-" + d.digits(), Method: pgmedic.MethodPlain, Purpose: pgmedic.PurposeRegular,
		StartedAt: at, SnapshotAt: at, FinishedAt: at, Server: pgmedic.Server{Name: d.Name, Version: d.Server},
		Objects: []pgmedic.Object{{Name: "dump", Role: pgmedic.RoleDump, StoredBytes: d.StoredBytes, SHA256: d.SHA256}},
	}
	exists := false
	if live != "" {
		if exists, err = databases.Exists(ctx, conn, live); err != nil {
			return nil, err
		}
	}
	if exists {
		b.Database, err = propertiesOf(ctx, o.Target.WithDatabase(live), server.VersionNum)
		return b, err
	}
	b.Database, err = newProperties(ctx, conn, server.VersionNum, encoding)
	b.Database.Name = cmp.Or(live, o.Into)
	return b, err
}

// warnSuperuser warns when a dump of unknown origin is restored by a superuser.
func warnSuperuser(ctx context.Context, conn *pgx.Conn, o Options) error {
	var superuser bool
	err := conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").Scan(&superuser)
	if err == nil && superuser {
		o.Logger.Warn("the dump is restored by a superuser: code in it can do all that the server's operating system user can; for a dump that you don't trust, use a role that has CREATEDB and nothing else")
	}
	return postgres.Wrap(err, "read the role's privileges")
}

// digits are the six of the dump's id.
func (d *Dump) digits() string {
	if len(d.SHA256) >= 6 {
		return d.SHA256[:6]
	}
	return hex.EncodeToString([]byte("dir")) // a folder
}

// propertiesOf reads what a live database has, its dump does not record, and its
// replacement is to have.
func propertiesOf(ctx context.Context, t postgres.Target, versionNum int) (pgmedic.Database, error) {
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return pgmedic.Database{}, err
	}
	defer postgres.Close(ctx, conn)
	d, err := postgres.ReadDatabase(ctx, conn, versionNum)
	// These are of its content, and the copy's comes from the dump.
	d.Extensions, d.Roles, d.Tablespaces, d.LabelProviders = nil, nil, nil, nil
	return d, err
}

// newProperties are those of a database as CREATE DATABASE makes it on this server, in
// an encoding. A locale that does not go with that is given up for C.
func newProperties(ctx context.Context, conn *pgx.Conn, versionNum int, encoding string) (d pgmedic.Database, err error) {
	template, err := postgres.ReadLocale(ctx, conn, "template1", versionNum)
	if err != nil {
		return d, err
	}
	d = pgmedic.Database{Encoding: encoding, ConnectionLimit: -1, DefaultACL: true, Collate: "C", CType: "C"}
	var same bool
	err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_char_to_encoding($1) = pg_catalog.pg_char_to_encoding($2)", encoding, template.Encoding).Scan(&same)
	if err != nil {
		return d, postgres.Wrap(err, "look for encoding "+encoding)
	}
	if same {
		d.Collate, d.CType, d.LocaleProvider, d.ICULocale, d.ICURules = template.Collate, template.CType, template.LocaleProvider, template.ICULocale, template.ICURules
	}
	return d, nil
}

// checkStatement passes a statement to the dump's Check, if a dump is restored.
func (l *plainLoad) checkStatement(st *dumpsql.Statement) (leaveOut bool, err error) {
	if l.Dump == nil {
		return false, nil
	}
	if leaveOut, err = l.Dump.Check(st); leaveOut {
		l.leftOut++
	}
	if st.Table == "" && st.Entry.Type == "TABLE DATA" {
		l.inserts++
	}
	return leaveOut, err
}

// readDump is read for a dump. One that does not end as pg_dump ends it was cut, by
// whatever wrote or copied it.
func (l *plainLoad) readDump(ctx context.Context, m io.Writer, onTable func(string), do func(io.Reader) error) (map[string]int64, error) {
	r, err := l.Dump.Open(ctx)
	if err != nil {
		return nil, err
	}
	script := l.Dump.script(r)
	counts, err := l.readScript(ctx, script, r, m, onTable, do)
	if err == nil && !script.Ended() {
		err = pgmedic.Errorf(pgmedic.KindIntegrity, "use another copy of it, or another dump", "%s: cut short: it does not end as pg_dump ends a dump", l.Dump.Name)
	}
	return counts, l.Dump.describe(err)
}

// dumped is what a load of a dump saw of it.
type dumped struct {
	// rows are those that each table's COPY had; inserts and leftOut count statements.
	rows             map[string]int64
	inserts, leftOut int
}

// compareDump is Compare for a copy of a dump: it compares the numbers of rows with
// those that were read, and reports what can't be known.
func (o *Options) compareDump(ctx context.Context, loaded *Loaded) ([]pgmedic.Check, error) {
	whole := pgmedic.Check{Name: "whole", Outcome: pgmedic.OutcomeOK, Detail: "read to its end, which is as pg_dump ends a dump"}
	if o.Dump.Part != "" {
		whole.Detail = "its part of the dump was read to the end, which is as pg_dump ends one; whether the other databases' parts are whole was not checked"
	}
	checks := append(slices.Clone(o.Dump.Checks), whole)
	p, ok := loaded.loader.(*plain)
	if !ok {
		return nil, errors.New("restore: a dump is loaded as a plain backup is")
	}
	switch {
	case o.Dump.Part != "":
		roles := "the roles and "
		if o.Globals != GlobalsNone {
			roles = ""
		}
		checks = append(checks, pgmedic.Check{Name: "database", Outcome: pgmedic.OutcomeSkipped,
			Detail: fmt.Sprintf("the part of database %q was restored; its owner, settings, rights and comment, %sthe other databases were left out", o.Dump.Part, roles)})
	case p.saw.leftOut > 0:
		checks = append(checks, pgmedic.Check{Name: "database", Outcome: pgmedic.OutcomeSkipped,
			Detail: fmt.Sprintf("statements about the database as a whole were left out: %s (its owner, settings, rights and comment)", pgmedic.Count(p.saw.leftOut))})
	}
	rows, err := o.countDumped(ctx, p.saw)
	if err != nil {
		return nil, err
	}
	read, err := o.amcheckDumped(ctx)
	return append(append(checks, rows, pgmedic.Check{Name: "locale", Outcome: pgmedic.OutcomeSkipped,
		Detail: fmt.Sprintf("the dump does not say its database's: the copy has encoding %s and locale %s", o.Backup.Database.Encoding, cmp.Or(o.Backup.Database.ICULocale, o.Backup.Database.Collate))},
		pgmedic.Check{Name: checkValues, Outcome: pgmedic.OutcomeSkipped, Detail: "not proven by value: the dump has no sums"},
		pgmedic.Check{Name: "schema", Outcome: pgmedic.OutcomeSkipped, Detail: "not compared: the dump has no list of its objects; each that the server refused is named"}),
		read...), err
}

// amcheckDumped has amcheck read the copy's indexes and tables, as a drill does. The
// extension is dropped again: it is not part of the dump.
func (o *Options) amcheckDumped(ctx context.Context) ([]pgmedic.Check, error) {
	done, err := o.amcheck(ctx)
	if err != nil && ctx.Err() == nil {
		// All rows are there: that the server had no connection left for a check is not a reason
		// to drop them.
		done.Failed(err)
		err = nil
	}
	for i := range done.Checks {
		if c := &done.Checks[i]; c.Outcome == pgmedic.OutcomeSkipped {
			c.Detail = "not checked: " + c.Detail
		}
	}
	return done.Checks, err
}

func (o *Options) amcheck(ctx context.Context) (done amcheck.Result, err error) {
	if o.Dump.SkipAmcheck != "" {
		return amcheck.Skipped(o.Dump.SkipAmcheck), nil
	}
	t := o.Target.WithDatabase(o.Into)
	superuser, err := isSuperuser(ctx, t)
	if err != nil {
		return done, err
	}
	return amcheck.New(amcheck.Options{Target: t, Jobs: o.Jobs, Superuser: superuser, Refused: refusedByContent, Progress: o.Progress}).Check(ctx, true)
}

// refusedByContent reports whether an error says something about what was restored, and not
// that the server can't be used at the moment: 08 is of connections, 53 of memory, room and
// connections, 57 of an operator and 58 of the system (PostgreSQL's appendix A).
func refusedByContent(code string) bool {
	return len(code) == 5 && !slices.Contains([]string{"08", "53", "57", "58"}, code[:2])
}

// countDumped counts the rows of the copy.
func (o *Options) countDumped(ctx context.Context, saw dumped) (pgmedic.Check, error) {
	check := pgmedic.Check{Name: "row counts", Outcome: pgmedic.OutcomeOK}
	if o.Without.Rows {
		check.Outcome, check.Detail = pgmedic.OutcomeSkipped, "the copy has no rows, as requested"
		return check, nil
	}
	conn, err := postgres.Connect(ctx, o.Target.WithDatabase(o.Into))
	if err != nil {
		return check, err
	}
	defer postgres.Close(ctx, conn)
	want, uncounted := map[string]int64{}, 0
	var wrong []string
	var tables []pgmedic.Table
	for _, name := range slices.Sorted(maps.Keys(saw.rows)) {
		found, err := tablesOf(ctx, conn, name)
		switch {
		case err != nil:
			return check, err
		case len(found) == 0:
			wrong = append(wrong, name+" is missing")
		case found[0].Extension != "": // CREATE EXTENSION made some of its rows
			uncounted++
		default:
			root := sqltext.CountedAs(found[0])
			if _, known := want[root]; !known {
				tables = append(tables, found...)
			}
			want[root] += saw.rows[name]
		}
	}
	have, err := databases.CountRows(ctx, conn, tables)
	if err != nil {
		return check, err
	}
	var total int64
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if total += have[name]; have[name] != want[name] {
			wrong = append(wrong, fmt.Sprintf("%s has %s, the dump %s", name, words.Plural(have[name], "row"), pgmedic.Count(want[name])))
		}
	}
	if len(wrong) > 0 {
		return *FailedCheck(check.Name, wrong), nil
	}
	check.Detail = fmt.Sprintf("%s in %s, as many as the dump has", words.Plural(total, "row"), words.Plural(len(want), "table"))
	if uncounted > 0 {
		check.Detail += "; " + words.Plural(uncounted, "table") + " of extensions not counted"
	}
	if saw.inserts > 0 {
		check.Detail += "; rows of INSERT statements not counted"
		if len(want) == 0 {
			check.Outcome, check.Detail = pgmedic.OutcomeSkipped, "not counted: the dump has its rows as INSERT statements"
		}
	}
	return check, nil
}

// tablesOf returns the table of a quoted name, or where it is partitioned or a partition
// all that hold rows below the topmost parent: rows may change their partition. There
// are none where there is no such table.
func tablesOf(ctx context.Context, conn *pgx.Conn, quoted string) ([]pgmedic.Table, error) {
	rows, err := conn.Query(ctx, `
SELECT n.nspname::text, t.relname::text, CASE WHEN r.relkind = 'p' THEN rn.nspname::text ELSE '' END, CASE WHEN r.relkind = 'p' THEN r.relname::text ELSE '' END,
	coalesce((SELECT e.extname::text FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
		WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'), '')
FROM pg_catalog.pg_class AS c
	JOIN pg_catalog.pg_class AS r ON r.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)
	JOIN pg_catalog.pg_namespace AS rn ON rn.oid = r.relnamespace
	JOIN pg_catalog.pg_class AS t ON t.relkind = 'r' AND (t.oid = r.oid OR r.relkind = 'p' AND t.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(r.oid)))
	JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
WHERE c.oid = pg_catalog.to_regclass($1)`, quoted)
	if err != nil {
		return nil, postgres.Wrap(err, "look for table "+quoted)
	}
	tables, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (t pgmedic.Table, err error) {
		return t, r.Scan(&t.Schema, &t.Name, &t.RootSchema, &t.RootName, &t.Extension)
	})
	return tables, postgres.Wrap(err, "look for table "+quoted)
}
