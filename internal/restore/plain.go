package restore

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// plain loads the one SQL stream of a plain backup, statement by statement.
type plain struct {
	refused []*refusal // what stayed refused
	saw     dumped
}

// Ready implements Loader. It takes no program.
func (*plain) Ready(context.Context, *Session) error { return nil }

// Load implements Loader.
func (p *plain) Load(ctx context.Context, s *Session) error {
	superuser, err := isSuperuser(ctx, s.Database)
	if err != nil {
		return err
	}
	l := &plainLoad{statementLoader: statementLoader{Session: s, superuser: superuser}}
	if err := l.open(ctx); err != nil {
		return err
	}
	defer l.close(ctx)
	if err := l.load(ctx); err != nil {
		return err
	}
	l.note()
	p.refused, p.saw = l.refused, l.dumped
	return nil
}

// Again implements Loader.
func (p *plain) Again(ctx context.Context, s *Session) error {
	superuser, err := isSuperuser(ctx, s.Database)
	if err != nil {
		return err
	}
	l := &plainLoad{statementLoader: statementLoader{Session: s, superuser: superuser}}
	if err := l.open(ctx); err != nil {
		return err
	}
	defer l.close(ctx)
	before, after := splitPostData(p.refused)
	l.refused = before
	if err := l.again(ctx); err != nil {
		return err
	}
	l.refused = append(l.refused, after...)
	if err := l.definitionsAgain(ctx); err != nil {
		return err
	}
	l.note()
	p.refused = l.refused
	return nil
}

// plainLoad is a plain backup's load going on.
type plainLoad struct {
	statementLoader
	dumped
	// rowsRefused is true where the rows of tables were refused that are to be tried
	// again before constraints and triggers are made.
	rowsRefused bool
}

func (l *plainLoad) load(ctx context.Context) error {
	object, ok := l.Backup.Object(pgmedic.RoleDump)
	if !ok {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest names no dump")
	}
	m := l.meter("load", object.PlainBytes)
	counts, err := l.read(ctx, object, m, m.Object, func(script io.Reader) error {
		return dumpsql.EachStatement(script, func(st *dumpsql.Statement) error { return l.statement(ctx, st) })
	})
	if err != nil {
		return err
	}
	if l.rowsRefused { // nothing came after the rows
		err = l.again(ctx)
	} else {
		err = l.definitionsAgain(ctx)
	}
	if err != nil {
		return err
	}
	for _, f := range l.refused {
		f.rows = counts[f.table]
	}
	l.rows = counts
	return nil
}

// read opens the dump, lets do read it, and returns the rows of each table. Only a
// stream that was read to its end is known to be what was written.
func (l *plainLoad) read(ctx context.Context, object pgmedic.Object, m io.Writer, onTable func(string), do func(io.Reader) error) (map[string]int64, error) {
	if l.Dump != nil {
		return l.readDump(ctx, m, onTable, do)
	}
	r, err := l.Source().Open(ctx, object)
	if err != nil {
		return nil, err
	}
	return l.readScript(ctx, dumpsql.NewScript(r), r, m, onTable, do)
}

// readScript is read for a script of what r holds, which it closes.
func (l *plainLoad) readScript(ctx context.Context, sql *dumpsql.Script, r io.Closer, m io.Writer, onTable func(string), do func(io.Reader) error) (map[string]int64, error) {
	sql.Without, sql.Rows.OnTable = l.Without, onTable
	script := pgtool.NewInput(fixedCloser{sql, r})
	err := do(io.TeeReader(script, m))
	err = errors.Join(script.ReadRest(ctx, err), script.Close())
	return sql.Rows.Counts(), err
}

func (l *plainLoad) statement(ctx context.Context, st *dumpsql.Statement) error {
	if leaveOut, err := l.checkStatement(st); leaveOut || err != nil {
		return err
	}
	if l.rowsRefused && st.Entry.IsPostData() {
		l.rowsRefused = false
		if err := l.again(ctx); err != nil {
			return err
		}
	}
	if err := l.run(ctx, st); err != nil {
		return err
	}
	l.rowsRefused = l.rowsRefused || st.Table != "" && len(l.refused) > 0 && l.refused[len(l.refused)-1].number == st.Number
	return nil
}

// again tries what was refused, rows too, for which it reads the dump once more in
// each round: a check may read a table that another one kept empty. It comes before
// triggers, which would fire for the rows.
func (l *plainLoad) again(ctx context.Context) error {
	object, _ := l.Backup.Object(pgmedic.RoleDump)
	for {
		if err := l.definitionsAgain(ctx); err != nil {
			return err
		}
		if !slices.ContainsFunc(l.refused, func(f *refusal) bool { return f.table != "" }) {
			break
		}
		wentIn := false
		_, err := l.read(ctx, object, io.Discard, nil, func(script io.Reader) (err error) {
			wentIn, err = l.rowsAgain(ctx, script, func(st *dumpsql.Statement) *refusal {
				i := slices.IndexFunc(l.refused, func(f *refusal) bool { return f.number == st.Number && f.table != "" })
				if i < 0 {
					return nil
				}
				return l.refused[i]
			})
			return err
		})
		if err != nil {
			return err
		}
		if !wentIn {
			break
		}
	}
	return l.backToDump(ctx)
}

// fixedCloser is a reader with the closer of what it reads from.
type fixedCloser struct {
	io.Reader
	io.Closer
}

func isSuperuser(ctx context.Context, t postgres.Target) (bool, error) {
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return false, err
	}
	defer postgres.Close(ctx, conn)
	return postgres.IsSuperuser(ctx, conn)
}
