package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// How a pooler is recognised. A session with the server itself has the server process's
// id in its cancel key; a pooler makes up a key of its own. In session mode every
// connection keeps a server session to itself while it is open. In transaction or
// statement mode it gets any free one for each statement: then either two
// connections that are open at once are given the same one, or one connection is
// given two in turn. Both are seen without setting anything and without a
// transaction that holds a server session.

const (
	// probes is how many connections besides the first look for a shared server
	// session. Several, because a pooler may be several processes or hosts behind
	// one address: of so many connections two meet in one of up to four.
	probes = 4
	// rounds is how often each of them asks. Beside a busy application the free
	// session that a connection gets may be another one each time, or by chance
	// the same.
	rounds = 6
	// poolPatience is how long a connection waits for a server session before the
	// pool is taken to be full.
	poolPatience = 2 * time.Second
	// poolAnswers is how often the first connection is answered meanwhile.
	poolAnswers = 3
	// probeLimit bounds all of it.
	probeLimit = 30 * time.Second
	// hurriedTries is how often a statement is repeated that a statement_timeout
	// of a millisecond ended: by a pooler it can't be turned off beforehand.
	hurriedTries = 20
)

var (
	errPoolerSlow = errors.New("no server session came free in time")
	errHurried    = errors.New("statement_timeout ends every statement")
)

// pooledKey is where the custom data of a connection through a pooler have the id of
// the server's process.
const pooledKey = "pgmedic.pooler"

// Pooled reports whether a session goes through a pooler.
func Pooled(conn *pgx.Conn) bool { return conn.PgConn().CustomData()[pooledKey] != nil }

// PID returns the id of the server's process of a session. That of the cancel key
// is the pooler's invention where there is one: another process may have it.
func PID(conn *pgx.Conn) uint32 {
	if pid, ok := conn.PgConn().CustomData()[pooledKey].(uint32); ok {
		return pid
	}
	return conn.PgConn().PID()
}

// serverSession is one session of one server: its process id, which is unique among
// those of one server only, and when that server was started.
type serverSession struct{ pid, started string }

// sessionSQL names a session, in a form that no setting changes.
const sessionSQL = `pg_catalog.pg_backend_pid(), pg_catalog.encode(pg_catalog.timestamptz_send(pg_catalog.pg_postmaster_start_time()), 'hex')`

// begin is the first statement of every session. It says which one of the server
// it is, and empties the search path where that is its own for certain. The owner
// of a database may give it any search_path, also one in which a schema of theirs
// comes before pg_catalog; a bare name in a statement that runs before this one
// would call a function of theirs as our role (CVE-2018-1058). The path can't be
// emptied in a session that a pooler may give to somebody else next.
func begin(ctx context.Context, conn *pgx.Conn) (s serverSession, direct bool, err error) {
	key := strconv.FormatUint(uint64(conn.PgConn().PID()), 10)
	row, err := hurriedRow(ctx, conn, "SELECT "+sessionSQL+`,
	CASE WHEN pg_catalog.pg_backend_pid()::pg_catalog.int8 OPERATOR(pg_catalog.=) '`+key+`'::pg_catalog.int8
		THEN pg_catalog.set_config('search_path', '', false) END IS NOT NULL`)
	if err != nil {
		return s, false, Wrap(err, "ask which session this is")
	}
	return serverSession{row[0], row[1]}, row[2] == "t", nil
}

// which is begin without any effect.
func which(ctx context.Context, conn *pgx.Conn) (serverSession, error) {
	row, err := hurriedRow(ctx, conn, "SELECT "+sessionSQL)
	if err != nil {
		return serverSession{}, Wrap(err, "ask which session this is")
	}
	return serverSession{row[0], row[1]}, nil
}

// hurriedRow runs a query of one row in a session whose own timeouts may be of
// milliseconds, and whose transactions may wait for others (deferrable). All goes
// in one message, so that a pooler gives it to one session and nothing stays there.
func hurriedRow(ctx context.Context, conn *pgx.Conn, sql string) (row []string, err error) {
	sql = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE; SET LOCAL statement_timeout = 0; " + sql + "; END"
	for range hurriedTries {
		results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if err == nil {
			for _, value := range results[2].Rows[0] {
				row = append(row, string(value))
			}
			return row, nil
		}
		if conn.PgConn().TxStatus() == 'E' {
			_ = ExecSimple(ctx, conn, "ROLLBACK") // what went wrong is known
		}
		if Code(err) != "57014" {
			return nil, err
		}
	}
	return nil, errHurried
}

// poolers remembers through which addresses, databases and roles a session pooler
// was found, so that a command looks once and not for each of its sessions.
type poolers struct {
	mu      sync.Mutex
	session map[string]bool
}

// keepsSessions returns nil for a pooler that keeps a server session for each
// connection, and an error for any other.
func (p *poolers) keepsSessions(ctx context.Context, first *pgx.Conn, s serverSession, another func(context.Context) (*pgx.Conn, error)) error {
	cfg := first.Config()
	key := fmt.Sprintf("%s %q %q", first.PgConn().Conn().RemoteAddr(), cfg.Database, cfg.User)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session[key] {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeLimit, errPoolerSlow)
	defer cancel()
	probe := &probe{another: another, conns: []probed{{first, s}}}
	defer probe.close(ctx)
	shared, err := probe.run(ctx)
	switch {
	case shared:
		return pgmedic.Errorf(pgmedic.KindUsage, directHint,
			"connect to PostgreSQL at %s: that is a pooler in transaction mode, which gives a connection another server session for each transaction", addressOf(cfg))
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("find out the mode of the pooler at %s: %w", addressOf(cfg), context.Cause(ctx))
	case err != nil:
		return pgmedic.Errorf(pgmedic.KindUnreachable, directHint, "find out the mode of the pooler at %s: %w", addressOf(cfg), err)
	}
	if p.session == nil {
		p.session = map[string]bool{}
	}
	p.session[key] = true
	return nil
}

// directHint is what to do about a pooler that does not serve.
const directHint = "set DIRECT_URL to the server itself, or to a port of the pooler that has pool_mode = session"

// probe looks whether connections share server sessions.
type probe struct {
	another func(context.Context) (*pgx.Conn, error)
	conns   []probed
}

// probed is a connection and the server session in which it was last.
type probed struct {
	conn *pgx.Conn
	had  serverSession
}

func (p *probe) close(ctx context.Context) {
	for _, c := range p.conns[1:] {
		Close(ctx, c.conn)
	}
}

// run reports whether server sessions are shared.
func (p *probe) run(ctx context.Context) (shared bool, err error) {
	for range probes {
		shared, full, err := p.add(ctx)
		if shared || full || err != nil {
			return shared, err
		}
	}
	for round := range rounds {
		for i := range p.conns {
			if shared, err := p.ask(ctx, i); shared || err != nil {
				return shared, err
			}
		}
		// A pooler that takes turns among its free sessions would give each
		// connection the same one again where their numbers fit.
		for range round {
			if shared, err := p.ask(ctx, 0); shared || err != nil {
				return shared, err
			}
		}
	}
	return false, nil
}

// ask reports whether a connection is in another server session than before, or in
// one that another open connection had.
func (p *probe) ask(ctx context.Context, i int) (shared bool, err error) {
	s, err := which(ctx, p.conns[i].conn)
	if err != nil {
		return false, err
	}
	if s != p.conns[i].had {
		return true, nil
	}
	return p.taken(ctx, s, i)
}

// taken reports whether another connection than the one at except had a server
// session and is still open, so that it could not have ended in between.
func (p *probe) taken(ctx context.Context, s serverSession, except int) (bool, error) {
	for i, c := range p.conns {
		if i == except || c.had != s {
			continue
		}
		_, err := which(ctx, c.conn)
		return err == nil, err
	}
	return false, nil
}

// add opens one more connection and asks it. In a pool that is full it waits. In
// session mode the first connection is answered all the same; in transaction mode
// it waits behind the new one, which came first, so that the new one has its answer
// by then.
func (p *probe) add(ctx context.Context) (shared, full bool, err error) {
	c, err := p.another(ctx)
	if err != nil {
		return false, false, err
	}
	type answer struct {
		session serverSession
		err     error
	}
	answers := make(chan answer, 1)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		s, err := which(waiting, c)
		answers <- answer{s, err}
	}()
	patience := poolPatience
	for range poolAnswers + 1 {
		select {
		case got := <-answers:
			p.conns = append(p.conns, probed{c, got.session})
			if got.err != nil {
				return false, false, got.err
			}
			shared, err = p.taken(ctx, got.session, len(p.conns)-1)
			return shared, false, err
		case <-time.After(patience):
		}
		if shared, err = p.ask(ctx, 0); shared || err != nil {
			break
		}
		patience = poolPatience / 2
	}
	cancel()
	<-answers
	Close(ctx, c)
	return shared, err == nil && !shared, err
}

// discardSQL gives a session back as the server began it.
const discardSQL = "DISCARD ALL"

// startFresh takes from a server session what earlier connections through a pooler
// have left in it, where the pooler does not (server_reset_query is empty).
func startFresh(ctx context.Context, conn *pgx.Conn) error {
	for range hurriedTries {
		// A message each: the second can't be in a transaction.
		err := ExecSimple(ctx, conn, "SET statement_timeout = 0")
		if err == nil {
			err = ExecSimple(ctx, conn, discardSQL)
		}
		if err == nil {
			break
		}
		if Code(err) != "57014" {
			return Wrap(err, "begin a session through a pooler")
		}
	}
	name := conn.Config().RuntimeParams["application_name"]
	_, err := hurriedRow(ctx, conn, "SELECT pg_catalog.set_config('search_path', '', false), pg_catalog.set_config('application_name', "+sqltext.QuoteLiteral(name)+", false)")
	return Wrap(err, "begin a session through a pooler")
}
