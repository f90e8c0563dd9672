package inspect

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/poolstate"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// sessionsPatience bounds how long the server is asked for the sessions of one pool.
const sessionsPatience = 10 * time.Second

// readServices adds the pools of services to a reading, each with what the server says of
// its sessions. What can't be read is listed as skipped.
func (o Options) readServices(ctx context.Context, conn *pgx.Conn, r *reading.Reading) error {
	r.Services = []reading.Service{}
	skip := func(s poolstate.Source, reason string) {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionServices, Query: words.OneLine("pool " + s.Name()), Reason: words.OneLine(reason),
		})
	}
	for _, source := range o.Pools {
		service, err := source.Read(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			skip(source, err.Error())
			if o.Unread != nil {
				o.Unread(source, err)
			}
			continue
		}
		now := o.now()
		if service.TakenAt == nil && source.Live() {
			service.TakenAt = new(now.UTC())
		}
		service.Current = service.Of(now)
		reason := unjoined(service, r.Server.Role)
		if reason == "" {
			err := joinSessions(ctx, conn, r, &service)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				reason = "the server's sessions could not be read: " + err.Error()
			}
		}
		if reason != "" {
			skip(source, reason)
		}
		r.Services = append(r.Services, service)
	}
	return nil
}

// now is the time, by the clock of the look.
func (o Options) now() time.Time {
	if o.Collect.Now != nil {
		return o.Collect.Now()
	}
	return time.Now()
}

// unjoined says why the server can't be asked for the sessions of a pool, or nothing.
func unjoined(s reading.Service, role reading.Role) string {
	if s.TakenAt == nil {
		return "metrics in a file do not say when they were true, so nothing of them is judged"
	}
	if !s.Current {
		return "the snapshot was taken at " + s.TakenAt.Format("2006-01-02 15:04:05 UTC") + ", too far from now: its sessions are not looked for, and nothing of it is judged"
	}
	if s.Servers[0].Holders == nil {
		return "metrics do not say which statements hold connections, nor who waits: serve db.SnapshotHandler(), and give its URL"
	}
	if s.Application == "" {
		return "the service has no application_name, by which the server's sessions are told apart: set one in its connection string"
	}
	alike := 0
	for _, p := range s.Servers {
		if p.Pooler && len(p.Holders) > 0 {
			return "a pooler is between the service and " + p.Server + ", so the server's processes are not known"
		}
		if p.Role == string(role) {
			alike++
		}
	}
	switch {
	case alike == 0:
		return "the service has no server of which it knows that it is a " + string(role) + ", as this one is"
	case alike > 1:
		return "the service has several servers that are a " + string(role) + ", and does not know which of them this one is"
	}
	return ""
}

// joinSessions adds to those who hold a connection what the server says of their sessions.
// Another server of the pool may have a process of the same number, and so may another
// program after one ended: only the pool's server of this role counts, and sessions with
// its application_name that are no younger than the holder's connection.
func joinSessions(ctx context.Context, conn *pgx.Conn, r *reading.Reading, s *reading.Service) error {
	var pids []int32
	for _, p := range s.Servers {
		for _, h := range p.Holders {
			if h.PID > 0 && p.Role == string(r.Server.Role) {
				pids = append(pids, int32(h.PID))
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, sessionsPatience)
	defer cancel()
	held, err := sessions(ctx, conn, r, pids)
	if err != nil {
		return err
	}
	var blocking []int32
	for _, h := range held {
		for _, pid := range h.BlockedBy {
			blocking = append(blocking, int32(pid))
		}
	}
	blockers, err := sessions(ctx, conn, r, blocking)
	if err != nil {
		return err
	}
	join(s, r.Server.Role, held, blockers)
	return nil
}

// clockSlack is by how much, in seconds, a session may seem to be younger than a service has
// had its connection: the two are asked one after the other, and by two clocks.
const clockSlack = 2

// heldSession is a session of the server and what it waits for.
type heldSession struct {
	reading.Session
	BlockedBy []int
}

// join puts sessions beside those who hold them.
func join(s *reading.Service, role reading.Role, held, blockers map[int]heldSession) {
	for i := range s.Servers {
		if s.Servers[i].Role != string(role) {
			continue
		}
		s.Servers[i].Joined = true
		for j := range s.Servers[i].Holders {
			h := &s.Servers[i].Holders[j]
			on, found := held[h.PID]
			if !found || on.Application != s.Application || on.ConnectionSeconds+clockSlack < h.HeldSeconds {
				continue
			}
			h.Session, h.BlockedBy = &on.Session, on.BlockedBy
			for _, pid := range on.BlockedBy {
				if b, found := blockers[pid]; found {
					h.Blockers = append(h.Blockers, b.Session)
				}
			}
		}
	}
}

// sessions reads client sessions by their process ids. Which of them wait for others is
// asked only of those that wait for a lock, because the answer takes the lock table.
func sessions(ctx context.Context, conn *pgx.Conn, r *reading.Reading, pids []int32) (map[int]heldSession, error) {
	all := map[int]heldSession{}
	if len(pids) == 0 {
		return all, nil
	}
	queryID := `''`
	if r.Server.VersionNum >= 140000 {
		queryID = `coalesce(query_id::text, '')`
	}
	r.Cost.Queries, r.Cost.Statements = r.Cost.Queries+1, r.Cost.Statements+1
	rows, err := conn.Query(ctx, `/* pgmedic */ SELECT pid, coalesce(usename::text, '') AS user, coalesce(datname::text, '') AS database,
       coalesce(application_name, '') AS application, coalesce(host(client_addr), '') AS client, coalesce(state, '') AS state,
       coalesce(backend_type, '') AS backend_type, coalesce(wait_event_type || ':' || wait_event, '') AS wait_event,
       backend_start, xact_start AS transaction_start,
       coalesce(extract(epoch FROM greatest(statement_timestamp() - backend_start, '0')), 0)::float8 AS connection_seconds,
       coalesce(extract(epoch FROM greatest(statement_timestamp() - xact_start, '0')), 0)::float8 AS transaction_seconds,
       coalesce(extract(epoch FROM greatest(statement_timestamp() - query_start, '0')), 0)::float8 AS query_seconds,
       coalesce(extract(epoch FROM greatest(statement_timestamp() - state_change, '0')), 0)::float8 AS state_seconds,
       `+queryID+` AS query_id, left(coalesce(query, ''), 8192) AS query,
       CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) ELSE '{}' END::int8[] AS blocked_by
FROM pg_stat_activity WHERE pid = ANY($1::int4[]) ORDER BY pid`, pids)
	if err != nil {
		return nil, postgres.Wrap(err, "read the sessions of a pool")
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByNameLax[heldSession])
	if err != nil {
		return nil, postgres.Wrap(err, "read the sessions of a pool")
	}
	for _, s := range got {
		for _, t := range []*time.Time{s.BackendStart, s.TransactionStart} {
			if t != nil {
				*t = t.UTC()
			}
		}
		if !r.Literals {
			s.Query = sqltext.Form{}.Normalise(s.Query)
		}
		slices.Sort(s.BlockedBy)
		s.BlockedBy = slices.Compact(s.BlockedBy)
		all[s.PID] = s
	}
	return all, nil
}
