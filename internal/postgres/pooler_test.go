package postgres_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestPoolers connects through PgBouncer in all modes, with few and many server
// sessions, idle and beside a busy application: a pooler that keeps a server
// session for each connection always serves, any other never does.
func TestPoolers(t *testing.T) {
	times := testkit.Amount(6, 20, 200)
	for name, tt := range map[string]struct {
		mode     string
		size     int
		settings []string
		clients  int // of the application, at the same time
	}{
		"transaction, one server session":              {"transaction", 1, nil, 0},
		"transaction, one server session, busy":        {"transaction", 1, nil, 6},
		"transaction, two server sessions":             {"transaction", 2, nil, 0},
		"transaction, two server sessions, busy":       {"transaction", 2, nil, 6},
		"transaction, twenty server sessions":          {"transaction", 20, []string{"min_pool_size = 20"}, 0},
		"transaction, twenty server sessions, busy":    {"transaction", 20, []string{"min_pool_size = 20"}, 12},
		"transaction, twenty server sessions, calm":    {"transaction", 20, nil, 1},
		"transaction, in turn, five server sessions":   {"transaction", 5, []string{"server_round_robin = 1", "min_pool_size = 5"}, 0},
		"transaction, in turn, six server sessions":    {"transaction", 6, []string{"server_round_robin = 1", "min_pool_size = 6"}, 0},
		"transaction, in turn, busy":                   {"transaction", 5, []string{"server_round_robin = 1", "min_pool_size = 5"}, 3},
		"transaction, parameters ignored":              {"transaction", 4, []string{"ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout,options"}, 2},
		"transaction, reset always":                    {"transaction", 4, []string{"server_reset_query_always = 1"}, 2},
		"statement":                                    {"statement", 3, nil, 0},
		"statement, busy":                              {"statement", 3, nil, 6},
		"session, six server sessions":                 {"session", 6, nil, 0},
		"session, twenty server sessions":              {"session", 20, nil, 0},
		"session, twenty server sessions, busy":        {"session", 20, nil, 12},
		"session, in turn, busy":                       {"session", 20, []string{"server_round_robin = 1", "min_pool_size = 20"}, 6},
		"session, nothing is reset, busy":              {"session", 20, []string{"server_reset_query ="}, 6},
		"session, parameters ignored":                  {"session", 20, []string{"ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout,options"}, 2},
		"session, server sessions end early, and busy": {"session", 20, []string{"server_lifetime = 0"}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := postgrestest.Parse(t, scratchtest.Database(t, server))
			through := scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: tt.mode, PoolSize: tt.size, Settings: tt.settings})(target.Database())
			busy(t, through, tt.clients, tt.mode == "session")
			for range times {
				conn, err := postgres.Connect(t.Context(), postgrestest.Parse(t, through))
				if tt.mode != "session" {
					postgrestest.WantError(t, err, pgmedic.KindUsage, "transaction mode", "DIRECT_URL")
					if err == nil {
						postgres.Close(t.Context(), conn)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if !postgres.Pooled(conn) {
					t.Error("the pooler was not noticed")
				}
				if got := postgrestest.Query[string](t, conn, "SELECT current_setting('search_path')"); got != "" {
					t.Errorf("the search path is %q", got)
				}
				postgres.Close(t.Context(), conn)
			}
		})
	}
}

// TestFullPool: in session mode whoever comes next waits while all server sessions
// are taken, here by the one connection. That is no reason to refuse the pooler.
func TestFullPool(t *testing.T) {
	t.Parallel()
	target := postgrestest.Parse(t, scratchtest.Database(t, server))
	for name, size := range map[string]int{"one server session": 1, "two": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			through := scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: "session", PoolSize: size})(target.Database())
			conn := postgrestest.Connect(t, postgrestest.Parse(t, through))
			if !postgres.Pooled(conn) {
				t.Error("the pooler was not noticed")
			}
		})
	}
	t.Run("a transaction pooler that is full", func(t *testing.T) {
		t.Parallel()
		through := scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: "transaction", PoolSize: 2})(target.Database())
		busy(t, through, 20, false)
		for range 5 {
			_, err := postgres.Connect(t.Context(), postgrestest.Parse(t, through))
			postgrestest.WantError(t, err, pgmedic.KindUsage, "transaction mode")
		}
	})
}

// TestPoolersBehindOneAddress: connections go in turn to several poolers, as behind
// a load balancer or so_reuseport, each with server sessions of its own.
func TestPoolersBehindOneAddress(t *testing.T) {
	t.Parallel()
	target := postgrestest.Parse(t, scratchtest.Database(t, server))
	for _, mode := range []string{"transaction", "session"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var behind []string
			for range 4 {
				through := scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: mode, PoolSize: 5})(target.Database())
				cfg, err := pgx.ParseConfig(through)
				if err != nil {
					t.Fatal(err)
				}
				behind = append(behind, fmt.Sprintf("127.0.0.1:%d", cfg.Port))
			}
			port := balancer(t, behind)
			dsn := fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", server.Superuser(), port, target.Database())
			for range 5 {
				conn, err := postgres.Connect(t.Context(), postgrestest.Parse(t, dsn))
				if mode == "transaction" {
					postgrestest.WantError(t, err, pgmedic.KindUsage, "transaction mode")
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				postgres.Close(t.Context(), conn)
			}
		})
	}
}

// balancer passes connections on to several addresses in turn.
func balancer(t *testing.T, behind []string) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for i := 0; ; i++ {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp4", behind[i%len(behind)])
			if err != nil {
				_ = client.Close()
				continue
			}
			go relay(client, server)
			go relay(server, client)
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func relay(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

// TestHurriedThroughPooler: a statement_timeout does not hold for us, though no pooler
// lets a session begin without it. It is one that PgBouncer's own first statement meets.
func TestHurriedThroughPooler(t *testing.T) {
	t.Parallel()
	target, conn := database(t)
	postgrestest.Run(t, conn, "ALTER DATABASE "+target.Database()+" SET statement_timeout = '1h'")
	by := postgrestest.Parse(t, scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: "session", PoolSize: 10})(target.Database()))
	for range 5 {
		hurried := postgrestest.Connect(t, by)
		if got := postgrestest.Query[string](t, hurried, "SELECT current_setting('statement_timeout')"); got != "0" {
			t.Errorf("statement_timeout is %s", got)
		}
	}
}

// TestNothingIsInherited: by a pooler that resets nothing neither do we inherit what
// the application has left in the server session, nor it what we set.
func TestNothingIsInherited(t *testing.T) {
	t.Parallel()
	target, direct := database(t)
	through := scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: "session", PoolSize: 10, Settings: []string{"server_reset_query ="}})(target.Database())
	ctx := t.Context()
	application := testkit.Connect(t, through+"&default_query_exec_mode=simple_protocol")
	postgrestest.Run(t, application, "SET session_replication_role = replica", "SET work_mem = '64kB'", "CREATE TEMP TABLE mine (n int)", "SELECT pg_advisory_lock(1)")
	pid := postgrestest.Query[int](t, application, "SELECT pg_backend_pid()")
	if err := application.Close(ctx); err != nil {
		t.Fatal(err)
	}
	by := postgrestest.Parse(t, through)
	conn, err := postgres.Connect(ctx, by)
	if err != nil {
		t.Fatal(err)
	}
	// The session that the pooler gave away last, it gives away first.
	if got := postgrestest.Query[int](t, conn, "SELECT pg_backend_pid()"); got != pid {
		t.Errorf("in session %d instead of %d", got, pid)
	}
	if got := postgres.PID(conn); int(got) != pid || got == conn.PgConn().PID() {
		t.Errorf("the process's id is given as %d instead of %d", got, pid)
	}
	if got := postgrestest.Query[string](t, conn, "SELECT current_setting('session_replication_role') || current_setting('work_mem') || current_setting('application_name')"); got != "origin4MBpgmedic" {
		t.Errorf("inherited: %s", got)
	}
	postgrestest.Run(t, conn, "SELECT pg_advisory_lock(2)", "CREATE TEMP TABLE ours (n int)", "LISTEN ours")
	postgres.Close(ctx, conn)
	const changed = `SELECT coalesce(string_agg(name || '=' || setting, ', ' ORDER BY name), '') FROM pg_settings
		WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone')`
	for range 6 {
		application := testkit.Dial(t, through+"&default_query_exec_mode=simple_protocol")
		defer testkit.End(application)
		if got := postgrestest.Query[string](t, application, changed); got != "" {
			t.Errorf("the application inherits %s", got)
		}
		if got := postgrestest.Query[int](t, application, "SELECT count(*) FROM pg_listening_channels()"); got != 0 {
			t.Error("the application listens")
		}
	}
	if got := postgrestest.Query[int](t, direct, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"); got != 0 {
		t.Errorf("%d locks are held", got)
	}
}

// busy runs clients of an application to the end of the test: transactions, short
// and not so short, over connections of their own that come and go if brief.
func busy(t *testing.T, dsn string, clients int, brief bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var crowd sync.WaitGroup
	for n := range clients {
		crowd.Go(func() {
			var conn *pgx.Conn
			for i := 0; ctx.Err() == nil; i++ {
				if conn == nil || brief && i%10 == n%10 {
					if conn != nil {
						_ = conn.Close(ctx)
					}
					var err error
					if conn, err = pgx.Connect(ctx, dsn+"&default_query_exec_mode=simple_protocol"); err != nil {
						if ctx.Err() == nil {
							t.Errorf("the application: %v", err)
						}
						return
					}
				}
				sql := "SELECT 1"
				if i%3 == 0 {
					sql = fmt.Sprintf("BEGIN; SELECT pg_sleep(%f); COMMIT", float64(n)/1000)
				}
				if _, err := conn.Exec(ctx, sql); err != nil && ctx.Err() == nil {
					t.Errorf("the application: %v", err)
					return
				}
			}
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx))
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		crowd.Wait()
	})
}
