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
	m := &meter{session: s, total: object.PlainBytes}
	sql := pgtool.NewScript(r)
	sql.Rows.OnTable = func(table string) { m.object = table }
	script := &lockedReader{r: sql}
	err = pgtool.LoadSQL(ctx, pgtool.LoadOptions{
		Tool: p.psql, Target: s.Database, Script: io.TeeReader(script, m), ShowData: s.ShowData, EventTriggersOff: superuser,
	})
	// Only a stream read to its end is known to be what was written. psql may
	// stop before that without an error (at \q, say), or because damage made it
	// read nonsense: then the damage is what is to be reported.
	if ctx.Err() == nil {
		if _, rest := io.Copy(io.Discard, script); err == nil || pgmedic.KindOf(rest) == pgmedic.KindIntegrity {
			err = rest
		}
	}
	return errors.Join(err, r.Close())
}

// lockedReader may be read by two goroutines, one after the other: what feeds
// psql's input can be in a Read still when psql has ended.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

// meter reports the bytes that pass and the table they belong to, at most once
// in each mebibyte.
type meter struct {
	session     *Session
	object      string
	total       int64
	done, shown int64
}

func (m *meter) Write(p []byte) (int, error) {
	m.done += int64(len(p))
	if m.done-m.shown >= 1<<20 {
		m.shown = m.done
		m.session.report(pgmedic.Event{Step: "load", Object: m.object, DoneBytes: m.done, TotalBytes: m.total})
	}
	return len(p), nil
}
