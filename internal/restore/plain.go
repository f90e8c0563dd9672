package restore

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
)

// plain loads the one SQL stream of a plain backup through psql.
type plain struct{ psql pgtool.Tool }

// Ready implements Loader.
func (p *plain) Ready(ctx context.Context, s *Session) (err error) {
	p.psql, err = s.Tools.Find(ctx, "psql", s.atLeast())
	return err
}

// Load implements Loader.
func (p *plain) Load(ctx context.Context, s *Session) error {
	superuser, err := isSuperuser(ctx, s.Database)
	if err != nil {
		return err
	}
	object, ok := s.Backup.Object(pgmedic.RoleDump)
	if !ok {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest names no dump")
	}
	r, err := s.source().Open(ctx, object)
	if err != nil {
		return err
	}
	m := s.meter("load", object.PlainBytes)
	sql := pgtool.NewScript(r)
	sql.Without = s.Without
	sql.Rows.OnTable = m.Object
	script := &lockedReader{r: fixedCloser{sql, r}}
	err = pgtool.LoadSQL(ctx, pgtool.LoadOptions{
		Tool: p.psql, Target: s.Database, Script: io.TeeReader(script, m), ShowData: s.ShowData, EventTriggersOff: superuser,
	})
	return errors.Join(script.readRest(ctx, err), script.Close())
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
// that without an error (psql at \q, say), or because damage made it read
// nonsense: then the damage is what is to be reported.
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
