package pool

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// trusted is for how long after its last statement a connection is taken to be
	// there: looking at a socket costs as much as all the rest of a call.
	trusted = time.Millisecond
	// pingAfter is how long a connection may be idle before it is asked for a sign of
	// life, as pgxpool's is: a link that went silent leaves nothing on the socket.
	pingAfter = time.Second
	// drainTime and drainMessages bound the reading of what an idle connection was
	// sent: it is there already.
	drainTime     = 50 * time.Millisecond
	drainMessages = 64
)

// errMisled is the error of a connection to the primary that led to a standby. It
// wraps errNoSession: nothing was sent.
var errMisled = fmt.Errorf("it leads to a standby: %w", errNoSession)

// prepare is pgxpool's call before an idle or new connection is given to somebody. It
// says whether the connection can be used; pgxpool closes one that can't, and takes
// another.
func (e *endpoint) prepare(ctx context.Context, conn *pgx.Conn) (bool, error) {
	s := sessionOf(conn)
	late := lateOf(ctx)
	now := late.startedOr(e.clock)
	if late != nil {
		late.pinging = false
	}
	switch {
	case e.doomed(s):
		return false, nil
	case now-s.lastUsed > trusted && !s.alive(ctx):
		e.lost()
		return false, nil
	case s.standby && e.pooled.Load() == pooledNo && e.view.Load().primary:
		if late == nil || s.opened < now {
			return false, nil // the name may lead elsewhere by now
		}
		e.misled()
		if late.session {
			return true, nil
		}
		return false, errMisled
	}
	return true, nil
}

// doomed says whether an idle connection is to be closed whatever it looks like: it
// refused a write, or it was idle already when another one was lost.
func (e *endpoint) doomed(s *session) bool {
	return s.refused || int64(s.lastUsed) < e.lostAt.Load()
}

// shouldPing is pgxpool's question before prepare.
func (e *endpoint) shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	late := lateOf(ctx)
	if late != nil && late.pinging {
		e.lost() // the connection before this one did not answer
		late.pinging = false
	}
	s := sessionOf(p.Conn)
	if p.IdleDuration <= pingAfter || e.doomed(s) || s.socket.state() != socketQuiet {
		return false // prepare sees to it
	}
	if late != nil {
		late.pinging = true
	}
	return true
}

// lost notes that a connection was lost: those that are idle are as old, and most
// likely as dead, so that none of them is used any more.
func (e *endpoint) lost() { e.lostAt.Store(int64(e.clock())) }

// misled notes that a new connection led to a standby: the name may lead to another
// server by now, which only a new session of the probe finds out.
func (e *endpoint) misled() {
	e.reopen.Store(true)
	e.failed()
}

// alive says whether an idle connection is still there, as far as its socket shows.
// What the server sent meanwhile is read, such as a notification.
func (s *session) alive(ctx context.Context) bool {
	for range drainMessages {
		switch s.socket.state() {
		case socketQuiet:
			return true
		case socketClosed:
			return false
		case socketReadable:
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			_, err := s.conn.ReceiveMessage(bounded)
			cancel()
			if err != nil || s.conn.IsClosed() {
				return false
			}
		}
	}
	return false
}

// findRole notes whether a new connection is to a standby. Servers from 14 on say so
// by themselves, older ones are asked.
func (s *session) findRole(ctx context.Context, timeout time.Duration) error {
	if reported := s.conn.ParameterStatus("in_hot_standby"); reported != "" {
		s.standby = reported == "on"
		return nil
	}
	version, _, _ := strings.Cut(s.conn.ParameterStatus("server_version"), ".")
	if major, err := strconv.Atoi(version); err != nil || major >= 14 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	results, err := s.conn.Exec(ctx, "SELECT pg_is_in_recovery()").ReadAll()
	if err != nil {
		return err
	}
	s.standby = len(results) == 1 && len(results[0].Rows) == 1 && string(results[0].Rows[0][0]) == "t"
	return nil
}

// readOnlyByChoice says whether a session refuses writes because somebody has set it
// so, on a server that is not a standby. Then another connection refuses them, too.
func (s *session) readOnlyByChoice() bool {
	return s.conn.ParameterStatus("default_transaction_read_only") == "on" && s.conn.ParameterStatus("in_hot_standby") == "off"
}

// purpose is what somebody takes a connection for.
type purpose int

const (
	// forWrites: it may write.
	forWrites purpose = iota
	// forReads: it must not write, also on a primary.
	forReads
	// forEither: the statements say so themselves, as those of a transaction do.
	forEither
	// forSession: for a session of somebody's own.
	forSession
)

// setAccess has a session refuse writes, or take them as it did at first, if it does
// not yet. Behind a pooler a session is not one's own.
func (e *endpoint) setAccess(ctx context.Context, s *session, p purpose) error {
	readOnly := p == forReads && !e.view.Load().standby
	if p == forEither || readOnly == s.readOnly || e.pooled.Load() != pooledNo {
		return nil
	}
	sql := "RESET default_transaction_read_only"
	if readOnly {
		sql = "SET default_transaction_read_only = on"
	}
	if err := s.conn.Exec(ctx, sql).Close(); err != nil {
		s.refused = true // its role is not known now
		return fmt.Errorf("prepare a session: %w: %w", errNoSession, err)
	}
	s.readOnly = readOnly
	return nil
}

// stalePlan says whether a statement was refused for a plan that the server had
// prepared and that does not fit any more: a table has changed (0A000), or somebody
// ran DISCARD or DEALLOCATE (26000). Nothing was run, and pgx has forgotten the plan.
func stalePlan(err error) bool {
	state, routine := stateOf(err)
	return state == "0A000" && routine == "RevalidateCachedQuery" || state == "26000"
}

// errUnprepared marks the error of an AfterConnect.
var errUnprepared = errors.New("AfterConnect")
