package restore

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

// plain loads the one SQL stream of a plain backup, statement by statement.
type plain struct {
	refused []*refusal // what stayed refused
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
	p.refused = l.refused
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
	return nil
}

// read opens the dump, has do read it, and returns the rows of each table. Only a
// stream that was read to its end is known to be what was written.
func (l *plainLoad) read(ctx context.Context, object pgmedic.Object, m io.Writer, onTable func(string), do func(io.Reader) error) (map[string]int64, error) {
	r, err := l.source().Open(ctx, object)
	if err != nil {
		return nil, err
	}
	sql := dumpsql.NewScript(r)
	sql.Without, sql.Rows.OnTable = l.Without, onTable
	script := &lockedReader{r: fixedCloser{sql, r}}
	err = do(io.TeeReader(script, m))
	err = errors.Join(script.readRest(ctx, err), script.Close())
	return sql.Rows.Counts(), err
}

func (l *plainLoad) statement(ctx context.Context, st *dumpsql.Statement) error {
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

// lockedReader may be used by two goroutines, one after the other: what feeds a
// program's input can be in a Read still when the program has ended.
type lockedReader struct {
	mu sync.Mutex
	r  io.ReadCloser
}

// readRest reads what the program that ended with err has left. Only a stream
// read to its end is known to be what was written. A program may stop before
// that without an error, or because damage made it read nonsense: then the damage
// is what is to be reported.
func (l *lockedReader) readRest(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if _, rest := io.Copy(io.Discard, l); err == nil || pgmedic.KindOf(rest) == pgmedic.KindIntegrity {
		return rest
	}
	return err
}

// Close closes what is read, once nobody reads it.
func (l *lockedReader) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Close()
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}
