package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// statementLoader gives statements of a dump to the server. It goes on past those
// that the server refuses, and tries them again with the database's own search
// path, for as long as any goes in: what one of them needs, another may make.
type statementLoader struct {
	*Session
	superuser bool
	conn      *pgx.Conn
	own       string // the database's own search path

	refused []*refusal
	held    int
	// defaults are the dump's settings of where the next table goes.
	defaults map[string]string
	// went counts the statements of an archive's entry that went in.
	went map[string]int
}

// refusal is a statement that was refused, or one of an archive's entry with which
// something went wrong.
type refusal struct {
	entry    dumpsql.Entry
	sql      string // empty for rows, and for what is not tried again
	defaults map[string]string
	number   int    // in the dump
	line     int    // likewise
	table    string // of rows
	rows     int64
	err      error
}

// maxHeldStatements bounds the bytes of refused statements that are held to be
// tried again. What is beyond is refused for good.
const maxHeldStatements = 64 << 20

// open connects, once.
func (l *statementLoader) open(ctx context.Context) (err error) {
	if l.conn != nil {
		return nil
	}
	if l.conn, err = pgtool.ConnectLoading(ctx, l.Database, l.superuser); err != nil {
		return err
	}
	l.defaults, l.went = map[string]string{}, map[string]int{}
	l.own, err = postgres.ReadOwnPath(ctx, l.conn)
	return err
}

func (l *statementLoader) close(ctx context.Context) {
	if l.conn != nil {
		postgres.Close(ctx, l.conn)
	}
}

// defaultSetting matches the settings that pg_dump writes between entries.
var defaultSetting = regexp.MustCompile(`(?s)\A(?:\s*--[^\n]*\n)*\s*(SET (default_tablespace|default_table_access_method) = [^;]*;)\s*\z`)

// isDefault notes a statement that says where the next table goes.
func (l *statementLoader) isDefault(sql string) bool {
	if len(sql) > 4<<10 {
		return false
	}
	m := defaultSetting.FindStringSubmatch(sql)
	if m != nil {
		l.defaults[m[2]] = m[1]
	}
	return m != nil
}

// run gives a statement to the server for the first time.
func (l *statementLoader) run(ctx context.Context, st *dumpsql.Statement) error {
	aborted := l.conn.PgConn().TxStatus() == 'E'
	err := st.Run(ctx, l.conn)
	switch {
	case aborted && postgres.Code(err) == "25P02": // what aborted the transaction is noted
		return nil
	case err == nil:
		l.isDefault(st.SQL)
		return nil
	case !postgres.RefusedContent(err):
		return err
	}
	l.hold(st, err)
	return nil
}

// hold keeps a statement to be tried again.
func (l *statementLoader) hold(st *dumpsql.Statement, err error) {
	f := &refusal{entry: st.Entry, number: st.Number, line: st.Line, table: st.Table, err: err}
	inTransaction := l.conn.PgConn().TxStatus() != 'I' // which is not made again
	if st.Table == "" && !inTransaction && l.held+len(st.SQL) <= maxHeldStatements {
		f.sql, f.defaults = st.SQL, map[string]string{}
		l.held += len(st.SQL)
		for name, sql := range l.defaults {
			f.defaults[name] = sql
		}
	}
	l.refused = append(l.refused, f)
}

// definitionsAgain tries the statements that were refused, round by round.
func (l *statementLoader) definitionsAgain(ctx context.Context) error {
	for {
		progress := false
		var still []*refusal
		for _, f := range l.refused {
			if f.sql == "" {
				still = append(still, f)
				continue
			}
			if err := l.searchFor(ctx, f); err != nil {
				return err
			}
			err := postgres.Wrap(dumpsql.RunStatement(ctx, l.conn, f.sql), "load "+f.entry.String())
			switch {
			case err == nil:
				progress = true
				l.held -= len(f.sql)
				l.went[f.entry.ID]++
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case postgres.RefusedContent(err):
				f.err = err
				still = append(still, f)
			default:
				return err
			}
		}
		l.refused = still
		if !progress {
			return nil
		}
	}
}

// searchFor gives the session the search path with which what was refused is tried
// again, and the settings that the dump had there.
func (l *statementLoader) searchFor(ctx context.Context, f *refusal) error {
	if err := postgres.SetPath(ctx, l.conn, l.retryPath(f.entry.Schema, l.own)); err != nil {
		return err
	}
	return l.setDefaults(ctx, f.defaults)
}

func (l *statementLoader) setDefaults(ctx context.Context, defaults map[string]string) error {
	for _, sql := range defaults {
		if err := dumpsql.RunStatement(ctx, l.conn, sql); err != nil {
			return postgres.Wrap(err, "set up the session")
		}
	}
	return nil
}

// backToDump gives the session what the dump relies on.
func (l *statementLoader) backToDump(ctx context.Context) error {
	if err := postgres.SetPath(ctx, l.conn, ""); err != nil {
		return err
	}
	return l.setDefaults(ctx, l.defaults)
}

// entriesAgain tries the entries of an archive with which something went wrong.
func (l *statementLoader) entriesAgain(ctx context.Context, tool pgtool.Tool, archive, dir string, ids map[string]bool) error {
	if len(ids) == 0 {
		return nil
	}
	// pg_restore goes on where its session was lost. If the server went down with it,
	// what it had done may be undone, and all of it has to be done again.
	if err := l.admin.Ping(ctx); err != nil {
		return postgres.Wrap(err, "go on with the restore")
	}
	if err := l.open(ctx); err != nil {
		return err
	}
	list := filepath.Join(dir, "refused.list")
	if err := pgtool.WriteEntryList(ctx, tool, archive, list, ids); err != nil {
		return err
	}
	script, err := pgtool.StartEntries(ctx, tool, archive, list, l.Without)
	if err != nil {
		return err
	}
	err = dumpsql.EachStatement(dumpsql.NewScript(script), func(st *dumpsql.Statement) error {
		if st.Entry == (dumpsql.Entry{}) || l.isDefault(st.SQL) {
			return st.Run(ctx, l.conn) // the dump's settings
		}
		l.hold(st, nil)
		return nil
	})
	if err := errors.Join(err, script.Close()); err != nil {
		return err
	}
	return l.refusedAgain(ctx)
}

// refusedAgain is definitionsAgain in the middle of a dump.
func (l *statementLoader) refusedAgain(ctx context.Context) error {
	if len(l.refused) == 0 {
		return nil
	}
	if err := l.definitionsAgain(ctx); err != nil {
		return err
	}
	return l.backToDump(ctx)
}

// note reports what stays refused. An entry of an archive may have been made by
// pg_restore but for one of its statements: that it is there is then no refusal.
func (l *statementLoader) note() {
	for _, f := range l.refused {
		if f.entry.ID != "" && l.went[f.entry.ID] > 0 && alreadyThere(postgres.Code(f.err)) {
			continue
		}
		if f.err == nil {
			f.err = errTooMany
		}
		object := f.entry.String()
		switch named := f.entry != (dumpsql.Entry{}); { // pg_dump names all but the settings at the beginning
		case !named && f.table != "":
			object = "TABLE DATA " + f.table
		case !named:
			object = fmt.Sprintf("statement in line %d of the dump", f.line)
		}
		l.refuse(f.entry, object, f.rows, f.err)
	}
}

// errTooMany is the error for what was refused and could not be held for another try.
var errTooMany = errors.New("refused")

// rowsAgain reads a dump once more for the rows that were refused, and reports
// whether any went in. Wanted says which statements are run.
func (l *statementLoader) rowsAgain(ctx context.Context, dump io.Reader, wanted func(*dumpsql.Statement) *refusal) (wentIn bool, err error) {
	went := map[*refusal]bool{}
	err = dumpsql.EachStatement(dump, func(st *dumpsql.Statement) error {
		f := wanted(st)
		if f == nil {
			return nil
		}
		if err := postgres.SetPath(ctx, l.conn, l.retryPath(st.Entry.Schema, l.own)); err != nil {
			return err
		}
		switch err := st.Run(ctx, l.conn); {
		case err == nil:
			went[f] = true
		case postgres.RefusedContent(err):
			f.err = err
		default:
			return err
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	l.refused = slices.DeleteFunc(l.refused, func(f *refusal) bool { return went[f] })
	return len(went) > 0, nil
}
