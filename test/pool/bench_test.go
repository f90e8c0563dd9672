package pool_test

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic/pool"
)

// benchConns is how many connections each of the two has.
const benchConns = 8

// pair is a plain pgxpool and a pool to the same server, with all connections
// open.
func pair(b *testing.B, url string, dial pgconn.DialFunc) (*pgxpool.Pool, *pool.DB) {
	b.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		b.Fatal(err)
	}
	config.MaxConns, config.MinConns = benchConns, benchConns
	// The pool tells the server, too: that is no cost of the client.
	config.ConnConfig.RuntimeParams["statement_timeout"] = "30000"
	if dial != nil {
		config.ConnConfig.DialFunc = dial
	}
	plain, err := pgxpool.NewWithConfig(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(plain.Close)
	db, err := pool.Open(b.Context(), pool.Config{PrimaryURL: url, MaxConns: benchConns, MinConns: benchConns, DialFunc: dial, Pooler: pool.PoolerNone})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Shutdown(context.WithoutCancel(b.Context())) })
	return plain, db
}

// realPair is a pair to a real server, and cannedPair to one that is not there.
func realPair(b *testing.B) (*pgxpool.Pool, *pool.DB) {
	b.Helper()
	return pair(b, server.URL("postgres"), nil)
}

func cannedPair(b *testing.B) (*pgxpool.Pool, *pool.DB) {
	b.Helper()
	return pair(b, cannedURL, dialCanned)
}

// cost is what a call took: on the clock, and of the processor's time in this
// process. The first is that of the network and of the server for the most part,
// and on a busy machine mostly that of others.
type cost struct{ wall, cpu []float64 }

func (c *cost) add(calls int, f func(int)) {
	began, used := time.Now(), processTime()
	f(calls)
	c.wall = append(c.wall, float64(time.Since(began))/float64(calls))
	c.cpu = append(c.cpu, float64(processTime()-used)/float64(calls))
}

// turns runs two things turn by turn, so that whatever else the machine does
// hits both.
func turns(b *testing.B, calls int, first, second func(calls int)) (x, y cost) {
	b.Helper()
	first(calls)
	second(calls)
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			x.add(calls, first)
			y.add(calls, second)
		} else {
			y.add(calls, second)
			x.add(calls, first)
		}
	}
	return x, y
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// allocations counts those of one call, in all goroutines.
func allocations(calls int, f func(int)) float64 {
	var before, after runtime.MemStats
	f(calls)
	runtime.ReadMemStats(&before)
	f(calls)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(calls)
}

// report reports both, and what a call of the pool costs more.
func report(b *testing.B, perTurn int, plain, pooled func(int)) {
	b.Helper()
	x, y := turns(b, perTurn, plain, pooled)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(x.wall), "pgxpool-ns")
	b.ReportMetric(median(y.wall), "pool-ns")
	b.ReportMetric(median(y.wall)-median(x.wall), "more-ns")
	b.ReportMetric(median(x.cpu), "pgxpool-cpu-ns")
	b.ReportMetric(median(y.cpu)-median(x.cpu), "more-cpu-ns")
	b.ReportMetric(allocations(1000, plain), "pgxpool-allocs")
	b.ReportMetric(allocations(1000, pooled), "pool-allocs")
}

// BenchmarkOverhead is what a call of the pool costs more than one of pgxpool,
// with a server that answers at once, so that nothing else is measured.
func BenchmarkOverhead(b *testing.B) {
	plain, db := cannedPair(b)
	cancellable, cancel := context.WithCancel(b.Context())
	defer cancel()
	benchCalls(context.Background(), b, plain, db, "background")
	benchCalls(cancellable, b, plain, db, "request")
}

// BenchmarkRoundTrip is the same with a real server.
func BenchmarkRoundTrip(b *testing.B) {
	plain, db := realPair(b)
	benchCalls(context.Background(), b, plain, db, "background")
}

func benchCalls(ctx context.Context, b *testing.B, plain *pgxpool.Pool, db *pool.DB, name string) {
	b.Helper()
	const sql = "SELECT $1::int"
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	exec := func(call func(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)) func(int) {
		return func(calls int) {
			for range calls {
				_, err := call(ctx, sql, 1)
				check(err)
			}
		}
	}
	queryRow := func(call func(ctx context.Context, sql string, args ...any) pgx.Row) func(int) {
		return func(calls int) {
			for range calls {
				var n int
				check(call(ctx, sql, 1).Scan(&n))
			}
		}
	}
	query := func(call func(ctx context.Context, sql string, args ...any) (pgx.Rows, error)) func(int) {
		return func(calls int) {
			for range calls {
				rows, err := call(ctx, sql, 1)
				check(err)
				for rows.Next() {
				}
				check(rows.Err())
			}
		}
	}
	b.Run("Exec/"+name, func(b *testing.B) { report(b, 100, exec(plain.Exec), exec(db.Exec)) })
	b.Run("Query/"+name, func(b *testing.B) { report(b, 100, query(plain.Query), query(db.Query)) })
	b.Run("QueryRow/"+name, func(b *testing.B) { report(b, 100, queryRow(plain.QueryRow), queryRow(db.QueryRow)) })
	b.Run("Read/"+name, func(b *testing.B) {
		report(b, 100, queryRow(plain.QueryRow), queryRow(func(ctx context.Context, sql string, args ...any) pgx.Row {
			return db.Read(ctx).QueryRow(ctx, sql, args...)
		}))
	})
}

// BenchmarkAcquire takes an idle connection and gives it back.
func BenchmarkAcquire(b *testing.B) {
	plain, db := cannedPair(b)
	ctx := context.Background()
	report(b, 1000,
		func(calls int) {
			for range calls {
				conn, err := plain.Acquire(ctx)
				if err != nil {
					b.Fatal(err)
				}
				conn.Release()
			}
		},
		func(calls int) {
			for range calls {
				conn, err := db.Acquire(ctx)
				if err != nil {
					b.Fatal(err)
				}
				conn.Release()
			}
		})
}

// BenchmarkThroughput keeps all connections busy with select 1.
func BenchmarkThroughput(b *testing.B) {
	plain, db := realPair(b)
	ctx := context.Background()
	together := func(calls int, call func() error) {
		var workers sync.WaitGroup
		for range benchConns {
			workers.Go(func() {
				for range calls / benchConns {
					if err := call(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		workers.Wait()
	}
	x, y := turns(b, 4000,
		func(calls int) {
			together(calls, func() error { var n int; return plain.QueryRow(ctx, "SELECT 1").Scan(&n) })
		},
		func(calls int) {
			together(calls, func() error { var n int; return db.QueryRow(ctx, "SELECT 1").Scan(&n) })
		})
	share := make([]float64, len(x.wall))
	for i := range share {
		share[i] = 100 * (x.wall[i]/y.wall[i] - 1)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1e9/median(x.wall), "pgxpool-calls/s")
	b.ReportMetric(1e9/median(y.wall), "pool-calls/s")
	b.ReportMetric(median(y.cpu)-median(x.cpu), "more-cpu-ns")
	b.ReportMetric(median(share), "difference-%")
}

// processTime is the processor's time that this process has used.
func processTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}
