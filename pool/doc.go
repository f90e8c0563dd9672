// Package pool is a connection pool for services that use PostgreSQL: pgxpool
// with what every team else writes around it.
//
//	db, err := pool.Open(ctx, pool.Config{PrimaryURL: url, ReplicaURLs: replicas})
//	if err != nil { … }
//	defer db.Shutdown(shutdownCtx)
//
//	_, err = db.Exec(ctx, "UPDATE … ")                        // on the primary
//	err = db.Read(ctx).QueryRow(ctx, "SELECT … ").Scan(&n)    // on a standby that is fit for it
//	err = db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error { … })
//
// It feels like pgx: [DB.Exec], [DB.Query], [DB.QueryRow], [DB.SendBatch] and
// [DB.CopyFrom] are pgxpool's, and code that was generated for pgx (sqlc) takes a
// [DB], what [DB.Read] returns, or a transaction.
//
// # What goes where
//
// The intent is said, never guessed from the SQL. The methods of DB go to the
// primary. Those of [DB.Read] go to a standby that answers, is in the same
// database, and is not further behind than [Config.MaxLag], or else to the
// primary. To read what one has just written, take a [DB.Token] after the write
// and give it to the reads with [WithToken].
//
// All servers are probed every [Config.HealthInterval]. After a failover writes
// go to the server that was promoted; a former primary that comes back is not
// written to.
//
// # What is tried again
//
// Whatever was certainly not run: no connection, a server that starts or is full.
// Whole transactions of [DB.InTx] after a serialization failure, a deadlock, or a
// connection lost before the COMMIT. After a connection was lost in the middle of
// anything else, only reads and what the caller marked by [WithIdempotent]. All
// else returns its error; if it is not known whether the work was done, that is
// an [ErrOutcomeUnknown]. Retries wait longer each time, at random, and are at
// most a share of all calls ([Config.RetryBudget]). A read that a standby fails goes
// to the primary, once and at once. [Classify] says what kind of
// error one is.
//
// # What is bounded
//
// The connections to each server, how many callers wait for one ([ErrOverloaded])
// and for how long ([ErrPoolTimeout]), connecting, and each statement
// ([ErrQueryTimeout]). A statement that is cancelled, by a timeout or by its
// context, is cancelled on the server, and its connection is kept. Errors of a context
// that has ended are both its error and its cause.
//
// # Connection strings
//
// A connection string is a URL or keywords and values, as for libpq, with
// sslmode, application_name and so on. It may also have Prisma's connection_limit,
// pool_timeout, connect_timeout, socket_timeout (in seconds), schema, pgbouncer
// and statement_cache_size, and pgxpool's pool_max_conns, pool_min_conns,
// pool_min_idle_conns, pool_max_conn_lifetime, pool_max_conn_lifetime_jitter and
// pool_max_conn_idle_time. What [Config] says wins over it. Any other parameter
// is refused.
//
// # What is logged and counted
//
// Statements slower than [Config.SlowQuery], without literals and arguments;
// failovers; connections that are held for too long. [DB.Stats] has counts and
// histograms, [DB.WriteMetrics] writes them in Prometheus' text format, and package
// poolprom has a collector. [DB.Snapshot] says who has a connection and who waits for one.
package pool
