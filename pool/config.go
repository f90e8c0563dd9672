package pool

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Pooler says whether a connection pooler such as PgBouncer stands between the
// service and the server.
type Pooler int

const (
	// PoolerAuto asks: behind a pooler the process number of a session is not
	// the one that the connection was given. One that is found is taken for
	// PoolerTransaction.
	PoolerAuto Pooler = iota
	// PoolerNone means that there is none.
	PoolerNone
	// PoolerTransaction means one that may give each transaction another session, such
	// as PgBouncer with pool_mode = transaction. No prepared statements, nothing
	// set at start-up or for a session.
	PoolerTransaction
	// PoolerPrepared means the same, but it keeps track of prepared
	// statements: PgBouncer from 1.21 with max_prepared_statements set.
	PoolerPrepared
)

// Config says what Open opens. Only PrimaryURL is needed. For each number and
// duration, zero means the default, or what the connection string says. Where a
// field says that it can be off, a negative value turns it off.
type Config struct {
	// PrimaryURL is the connection string of the primary, as a URL or as
	// keywords and values. See the package documentation for its parameters.
	PrimaryURL string
	// ReplicaURLs are those of its standbys. Which of all these servers is the
	// primary is asked of them again and again: after a failover, writes go to
	// the one that was promoted.
	ReplicaURLs []string

	// MaxConns bounds the connections to each server, by default 10. The pool's
	// probe has one more, so that it is not kept waiting by the work.
	MaxConns int
	// MinConns and MinIdleConns are how many connections are kept open, and
	// kept open and unused, by default none.
	MinConns, MinIdleConns int
	// MaxWaiting bounds how many callers wait for a connection to one server, by
	// default 100 times MaxConns. Others get ErrOverloaded at once.
	MaxWaiting int
	// AcquireTimeout bounds how long a caller waits for a connection, by default
	// 10 s, whatever it waits for. After it the caller gets ErrPoolTimeout, but a
	// Read that waited for a standby waits for the primary as long once more.
	AcquireTimeout time.Duration
	// ConnectTimeout bounds the opening of one connection, by default 5 s; and
	// BeforeConnect and AfterConnect for it, each by itself.
	ConnectTimeout time.Duration
	// QueryTimeout bounds each statement from when it is sent until its last row
	// is read, by default 30 s; it can be off. The server gets the same as its
	// statement_timeout, except behind a pooler.
	QueryTimeout time.Duration
	// SocketTimeout is when a connection is given up on which a statement has
	// not ended, whatever the reason, by default 60 s; it can be off. It matters
	// where QueryTimeout is off or lengthened for one transaction: after a
	// QueryTimeout, CancelGrace is all that the server gets.
	SocketTimeout time.Duration
	// CancelGrace is how long a statement that is cancelled may take to end,
	// before its connection is closed, by default 2 s. A cancelled statement
	// that ends in time costs no connection.
	CancelGrace time.Duration
	// MaxConnLifetime, MaxConnLifetimeJitter and MaxConnIdleTime are when a
	// connection is replaced, by default 1 h, a tenth of that, and 30 min. The
	// jitter is cut to whole seconds.
	MaxConnLifetime, MaxConnLifetimeJitter, MaxConnIdleTime time.Duration

	// MaxRetries bounds the retries of one call, by default 3; it can be off.
	MaxRetries int
	// RetryDelay is the wait before the first retry when a server is in trouble,
	// by default 1 s, and RetryBackoff what each further one is multiplied by,
	// by default 2. Waits are random in their upper half, and 10 s at most.
	// After a conflict of transactions, they are a hundredth.
	RetryDelay   time.Duration
	RetryBackoff float64
	// RetryBudget bounds retries to this share of all calls of the last ten to
	// twenty seconds, by default 0.1, besides ten in that time.
	RetryBudget float64
	// BreakerFailures is after how many failures in a row to reach a server
	// calls to it fail at once, with ErrCircuitOpen, by default 5; it can be off.
	// BreakerCooldown is for how long at first, by default 500 ms; the time
	// doubles up to 10 s, and a probe that succeeds ends it.
	BreakerFailures int
	BreakerCooldown time.Duration

	// HealthInterval is how often each server is probed, by default 30 s. While
	// something is wrong it is more often, up to twice a second.
	HealthInterval time.Duration
	// MaxLag is how far behind the primary a standby may be to be read from, by
	// default 10 s; it can be off. It is seen as of the last probe.
	MaxLag time.Duration
	// MaxLagBytes is the same in bytes of WAL. Zero means no such limit.
	MaxLagBytes int64
	// TokenWait is how long a read waits for a standby to have what its token
	// asks for, before it goes to the primary, by default 50 ms; it can be off.
	TokenWait time.Duration

	// SlowQuery is from what duration on a statement is logged, by default 1 s;
	// it can be off. SlowQueryEvery is how often the same one may be, by default
	// 10 s.
	SlowQuery, SlowQueryEvery time.Duration
	// LeakAfter is for how long somebody may hold a connection before it is
	// logged with the stack that took it. Zero means never: keeping stacks costs
	// about a microsecond a call.
	LeakAfter time.Duration

	// Pooler says whether a pooler stands in between. See its values.
	Pooler Pooler
	// StartDegraded makes Open return a pool even if no server can be reached;
	// it recovers by itself. Else Open fails, if the primary can't be reached
	// within the acquire timeout.
	StartDegraded bool

	// Logger receives slow statements, leaks and failovers; nil discards them.
	Logger *slog.Logger
	// Tracer receives all queries, as pgx reports them, for instance one of
	// otelpgx. It may implement pgx's other tracers, too.
	Tracer pgx.QueryTracer
	// DialFunc makes the network connections, for instance that of a cloud's
	// connector. Nil means a plain dialer.
	DialFunc pgconn.DialFunc
	// BeforeConnect is called before each connection is opened, the probe's too,
	// and may change how: above all the Password, where one is valid for minutes
	// only, as those of a cloud's IAM. Its context ends with ConnectTimeout. An
	// error of it is one of ClassUnavailable, tried again as any failure to
	// connect, and its text is in errors that the pool returns: it must have no
	// secret. It may be called from several goroutines.
	BeforeConnect func(context.Context, *pgx.ConnConfig) error
	// AfterConnect prepares a new connection, for instance by registering types.
	// It must leave no state in the session behind a pooler. Its context ends with
	// ConnectTimeout.
	AfterConnect func(context.Context, *pgx.Conn) error
}

// The defaults of Config. Those with a name in the environment are the same
// there.
const (
	defaultMaxConns        = 10
	defaultWaitingPerConn  = 100
	defaultAcquireTimeout  = 10 * time.Second
	defaultConnectTimeout  = 5 * time.Second
	defaultQueryTimeout    = 30 * time.Second
	defaultSocketTimeout   = 60 * time.Second
	defaultCancelGrace     = 2 * time.Second
	defaultConnLifetime    = time.Hour
	defaultConnIdleTime    = 30 * time.Minute
	defaultMaxRetries      = 3
	defaultRetryDelay      = time.Second
	defaultRetryBackoff    = 2
	defaultRetryBudget     = 0.1
	defaultBreakerFailures = 5
	defaultBreakerCooldown = 500 * time.Millisecond
	defaultHealthInterval  = 30 * time.Second
	defaultMaxLag          = 10 * time.Second
	defaultTokenWait       = 50 * time.Millisecond
	defaultSlowQuery       = time.Second
	defaultSlowQueryEvery  = 10 * time.Second

	longestRetryDelay      = 10 * time.Second
	longestBreakerCooldown = 10 * time.Second
	// conflictShare is how much shorter the wait after a conflict of
	// transactions is: the other one is mostly over by then.
	conflictShare = 100
)

// orDefault returns the first of these that is not zero.
func orDefault[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

// withDefaults returns the configuration with all that is not given filled in.
// What is off is zero from here on.
func (c Config) withDefaults() Config {
	c.MaxConns = orDefault(c.MaxConns, defaultMaxConns)
	c.MaxWaiting = orDefault(c.MaxWaiting, defaultWaitingPerConn*c.MaxConns)
	c.AcquireTimeout = orDefault(c.AcquireTimeout, defaultAcquireTimeout)
	c.ConnectTimeout = orDefault(c.ConnectTimeout, defaultConnectTimeout)
	c.CancelGrace = orDefault(c.CancelGrace, defaultCancelGrace)
	if c.QueryTimeout == 0 && c.SocketTimeout > 0 {
		// Whoever shortens the one alone means both; there must be time to cancel.
		c.QueryTimeout = min(defaultQueryTimeout, max(c.SocketTimeout-c.CancelGrace, c.SocketTimeout/2))
	}
	c.QueryTimeout = orDefault(c.QueryTimeout, defaultQueryTimeout)
	// Whoever lengthens the one has said nothing about the other.
	c.SocketTimeout = orDefault(c.SocketTimeout, max(defaultSocketTimeout, c.QueryTimeout+c.CancelGrace))
	c.MaxConnLifetime = orDefault(c.MaxConnLifetime, defaultConnLifetime)
	c.MaxConnLifetimeJitter = orDefault(c.MaxConnLifetimeJitter, c.MaxConnLifetime/10)
	c.MaxConnIdleTime = orDefault(c.MaxConnIdleTime, defaultConnIdleTime)
	c.MaxRetries = orDefault(c.MaxRetries, defaultMaxRetries)
	c.RetryDelay = orDefault(c.RetryDelay, defaultRetryDelay)
	c.RetryBackoff = orDefault(c.RetryBackoff, defaultRetryBackoff)
	c.RetryBudget = orDefault(c.RetryBudget, defaultRetryBudget)
	c.BreakerFailures = orDefault(c.BreakerFailures, defaultBreakerFailures)
	c.BreakerCooldown = orDefault(c.BreakerCooldown, defaultBreakerCooldown)
	c.HealthInterval = orDefault(c.HealthInterval, defaultHealthInterval)
	c.MaxLag = orDefault(c.MaxLag, defaultMaxLag)
	c.TokenWait = orDefault(c.TokenWait, defaultTokenWait)
	c.SlowQuery = orDefault(c.SlowQuery, defaultSlowQuery)
	c.SlowQueryEvery = orDefault(c.SlowQueryEvery, defaultSlowQueryEvery)
	for _, d := range []*time.Duration{&c.QueryTimeout, &c.SocketTimeout, &c.MaxLag, &c.TokenWait, &c.SlowQuery} {
		*d = max(*d, 0)
	}
	c.MaxRetries = max(c.MaxRetries, 0)
	c.BreakerFailures = max(c.BreakerFailures, 0)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// check returns what is impossible in a configuration that has its defaults.
func (c Config) check() error {
	positive := []struct {
		field string
		value time.Duration
	}{
		{"AcquireTimeout", c.AcquireTimeout},
		{"ConnectTimeout", c.ConnectTimeout},
		{"CancelGrace", c.CancelGrace},
		{"MaxConnLifetime", c.MaxConnLifetime},
		{"MaxConnIdleTime", c.MaxConnIdleTime},
		{"RetryDelay", c.RetryDelay},
		{"BreakerCooldown", c.BreakerCooldown},
		{"HealthInterval", c.HealthInterval},
		{"SlowQueryEvery", c.SlowQueryEvery},
	}
	for _, p := range positive {
		if p.value < 0 {
			return &ConfigError{p.field, fmt.Sprintf("is %s", p.value), "leave it out for the default, or give a positive duration"}
		}
	}
	switch {
	case c.MaxConns < 1 || c.MaxConns > math.MaxInt32:
		return &ConfigError{"MaxConns", fmt.Sprintf("is %d", c.MaxConns), "it is a number of connections, from 1 on"}
	case c.MinConns < 0 || c.MinIdleConns < 0:
		return &ConfigError{"MinConns", fmt.Sprintf("%d, and MinIdleConns %d", c.MinConns, c.MinIdleConns), "they are numbers of connections, from 0 on"}
	case c.MinConns > c.MaxConns || c.MinIdleConns > c.MaxConns:
		return &ConfigError{
			"MinConns", fmt.Sprintf("%d connections kept open, %d kept idle, of at most %d", c.MinConns, c.MinIdleConns, c.MaxConns),
			"lower them, or raise MaxConns",
		}
	case c.MaxWaiting < 1:
		return &ConfigError{"MaxWaiting", fmt.Sprintf("is %d", c.MaxWaiting), "it is how many callers may wait, from 1 on"}
	case c.MaxLagBytes < 0:
		return &ConfigError{"MaxLagBytes", "is negative", "zero means no limit"}
	case c.LeakAfter < 0:
		return &ConfigError{"LeakAfter", "is negative", "zero means never"}
	case c.MaxConnLifetimeJitter < 0:
		return &ConfigError{"MaxConnLifetimeJitter", "is negative", "zero means a tenth of MaxConnLifetime"}
	case c.RetryBackoff < 1 || math.IsNaN(c.RetryBackoff) || math.IsInf(c.RetryBackoff, 0):
		return &ConfigError{"RetryBackoff", fmt.Sprintf("is %v", c.RetryBackoff), "each wait is the one before times this: from 1 on"}
	case !(c.RetryBudget > 0 && c.RetryBudget <= 1):
		return &ConfigError{"RetryBudget", fmt.Sprintf("is %v", c.RetryBudget), "it is a share of the calls: more than 0, at most 1"}
	case c.Pooler < PoolerAuto || c.Pooler > PoolerPrepared:
		return &ConfigError{"Pooler", fmt.Sprintf("is %d", c.Pooler), "use one of the constants"}
	case c.SocketTimeout > 0 && c.QueryTimeout > 0 && c.SocketTimeout < c.QueryTimeout:
		return &ConfigError{
			"SocketTimeout", fmt.Sprintf("%s is shorter than the QueryTimeout of %s", c.SocketTimeout, c.QueryTimeout),
			"a connection must outlive its statement: raise DB_SOCKET_TIMEOUT (in seconds) or lower DB_QUERY_TIMEOUT (in milliseconds)",
		}
	}
	return nil
}
