package pool

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// config is what a Config with this connection string comes to.
func configOf(t *testing.T, url string, c Config) (Config, map[string]string) {
	t.Helper()
	conn, s, err := parseConnString("PrimaryURL", url)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return c.fill(s).withDefaults(), conn.RuntimeParams
}

func TestConnStringParameters(t *testing.T) {
	const prisma = "postgres://u:p@h:5433/d?connection_limit=7&pool_timeout=3&connect_timeout=4&socket_timeout=90" +
		"&pgbouncer=true&schema=my%22schema&statement_cache_size=50&application_name=api&sslmode=disable"
	c, params := configOf(t, prisma, Config{})
	if c.MaxConns != 7 || c.AcquireTimeout != 3*time.Second || c.ConnectTimeout != 4*time.Second ||
		c.SocketTimeout != 90*time.Second || c.Pooler != PoolerTransaction {
		t.Errorf("%+v", c)
	}
	if params["search_path"] != `"my""schema"` || params["application_name"] != "api" || len(params) != 2 {
		t.Errorf("%v", params)
	}
	c, _ = configOf(t, prisma, Config{MaxConns: 3, Pooler: PoolerPrepared})
	if c.MaxConns != 3 || c.Pooler != PoolerPrepared {
		t.Errorf("the Config does not win: %+v", c)
	}
	c, params = configOf(t, "host=h user=u dbname=d pool_max_conns=5 pool_min_conns=2 pool_min_idle_conns=1 pool_max_conn_lifetime=2h "+
		"pool_max_conn_lifetime_jitter=1m pool_max_conn_idle_time=5m", Config{})
	if c.MaxConns != 5 || c.MinConns != 2 || c.MinIdleConns != 1 || c.MaxConnLifetime != 2*time.Hour ||
		c.MaxConnLifetimeJitter != time.Minute || c.MaxConnIdleTime != 5*time.Minute || len(params) != 0 {
		t.Errorf("%+v, %v", c, params)
	}
}

// TestConnStringOfPrisma: what Prisma's strings say alone makes sense alone.
func TestConnStringOfPrisma(t *testing.T) {
	c, _ := configOf(t, "postgres://u@h/d?socket_timeout=10", Config{})
	if c.check() != nil || c.QueryTimeout != 8*time.Second || c.SocketTimeout != 10*time.Second {
		t.Errorf("%v: %s, %s", c.check(), c.QueryTimeout, c.SocketTimeout)
	}
	c, _ = configOf(t, "postgres://u@h/d?socket_timeout=300", Config{})
	if c.check() != nil || c.QueryTimeout != defaultQueryTimeout {
		t.Errorf("%v: %s", c.check(), c.QueryTimeout)
	}
	conn, _, err := parseConnString("PrimaryURL", "postgres://u@h/d?statement_cache_size=0")
	if err != nil || conn.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		t.Errorf("a cache of statements without room: %v", err)
	}
}

// TestConnStringOfHosters: what their dashboards give and changes nothing is taken.
func TestConnStringOfHosters(t *testing.T) {
	const text = "postgres://u@h/d?fallback_application_name=svc&gssencmode=prefer&load_balance_hosts=disable&options=endpoint%3Dep-cool-1234"
	conn, _, err := parseConnString("PrimaryURL", text)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"application_name": "svc", "options": "endpoint=ep-cool-1234"}
	if !maps.Equal(conn.RuntimeParams, want) {
		t.Errorf("%v", conn.RuntimeParams)
	}
	if conn, _, err := parseConnString("", "postgres://u@h/d?application_name=a&fallback_application_name=b"); err != nil || conn.RuntimeParams["application_name"] != "a" {
		t.Errorf("%v", err)
	}
}

// TestConnStringRefused: each is refused in one line that names the parameter
// and quotes nothing secret.
func TestConnStringRefused(t *testing.T) {
	const secret = "hunter2"
	for text, want := range map[string]string{
		"":   "is empty",
		"  ": "is empty",
		"postgres://u:" + secret + "@h:notaport/d":                                   "can't be read",
		"postgres://u:" + secret + "@[h/d":                                           "can't be read",
		"postgres://u:" + secret + "@h1:5432,h2:5433/d":                              "several servers",
		"postgres://u:" + secret + "@h1,h2/d?target_session_attrs=read-write":        "several servers",
		"postgres://u:" + secret + "@h/d,postgres://u:" + secret + "@h2/d":           "several servers",
		"postgres://u:" + secret + "@h/d?sslmode=maybe":                              "can't be read",
		"postgres://u:" + secret + "@h/d?max_conns=5":                                "max_conns",
		"postgres://u:" + secret + "@h/d?options=-c%20x%3D1":                         "options",
		"postgres://u:" + secret + "@h/d?options=endpoint%3Dx%20-c%20x%3D1":          "options",
		"postgres://u:" + secret + "@h/d?keepalives_idle=30":                         "keepalives_idle",
		"postgres://u:" + secret + "@h/d?gssencmode=require":                         "gssencmode",
		"postgres://u:" + secret + "@h/d?load_balance_hosts=random":                  "load_balance_hosts",
		"postgres://u:" + secret + "@h/d?supa=base-pooler.x":                         "supa",
		"postgres://u:" + secret + "@h/d?session_replication_role=replica":           "session_replication_role",
		"postgres://u:" + secret + "@h/d?target_session_attrs=read-write":            "target_session_attrs",
		"postgres://u:" + secret + "@h/d?statement_timeout=1":                        "statement_timeout",
		"postgres://u:" + secret + "@h/d?sslaccept=strict":                           "sslaccept",
		"postgres://u:" + secret + "@h/d?connection_limit=0":                         "connection_limit",
		"postgres://u:" + secret + "@h/d?connection_limit=99999999999":               "connection_limit",
		"postgres://u:" + secret + "@h/d?pool_timeout=0":                             "pool_timeout",
		"postgres://u:" + secret + "@h/d?pool_timeout=5s":                            "pool_timeout",
		"postgres://u:" + secret + "@h/d?pgbouncer=perhaps":                          "pgbouncer",
		"postgres://u:" + secret + "@h/d?pool_max_conn_lifetime=-1s":                 "pool_max_conn_lifetime",
		"postgres://u:" + secret + "@h/d?schema=a&search_path=b":                     "schema",
		"user=u password=" + secret + " host=h dbname=d pool_health_check_period=1m": "pool_health_check_period",
	} {
		_, _, err := parseConnString("PrimaryURL", text)
		var configErr *ConfigError
		if !errors.As(err, &configErr) || !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if all := err.Error() + Hint(err); strings.Contains(all, secret) || strings.Contains(all, "\n") || Hint(err) == "" {
			t.Errorf("%s: %s (%s)", text, err, Hint(err))
		}
	}
}

// TestConnStringAdvice: what is wrong is named, and what was meant.
func TestConnStringAdvice(t *testing.T) {
	for text, want := range map[string][2]string{
		"postgres://u@h/d?sslmod=require":                           {`unknown parameter "sslmod"`, "did you mean sslmode?"},
		"postgres://u@h/d?connection_limits=5":                      {`unknown parameter "connection_limits"`, "did you mean connection_limit?"},
		"postgres://u@h/d?serach_path=x":                            {`unknown parameter "serach_path"`, "did you mean search_path?"},
		"postgres://u@h/d?what=ever":                                {`unknown parameter "what"`, "taken are host, port, "},
		"postgres://u@h/d?sslmode=no-verify":                        {"can't be read", "sslmode is one of disable, "},
		"postgres://u@h/d?sslmode=verify-full&sslrootcert=/no/file": {"the file /no/file can't be read", "correct the path "},
	} {
		_, _, err := parseConnString("DATABASE_URL", text)
		if err == nil || !strings.HasPrefix(err.Error(), "DATABASE_URL: "+want[0]) || !strings.HasPrefix(Hint(err), want[1]) && !strings.Contains(Hint(err), "; "+want[1]) {
			t.Errorf("%s: %v (%s)", text, err, Hint(err))
		}
	}
}

func TestConfigCheck(t *testing.T) {
	for field, c := range map[string]Config{
		"MaxConns":              {MaxConns: -1},
		"MinConns":              {MinConns: 11},
		"MaxWaiting":            {MaxWaiting: -1},
		"AcquireTimeout":        {AcquireTimeout: -1},
		"ConnectTimeout":        {ConnectTimeout: -1},
		"SocketTimeout":         {SocketTimeout: time.Second, QueryTimeout: time.Minute},
		"CancelGrace":           {CancelGrace: -1},
		"HealthInterval":        {HealthInterval: -1},
		"MaxLagBytes":           {MaxLagBytes: -1},
		"LeakAfter":             {LeakAfter: -1},
		"RetryBackoff":          {RetryBackoff: 0.5},
		"RetryBudget":           {RetryBudget: 2},
		"RetryDelay":            {RetryDelay: -1},
		"Pooler":                {Pooler: 9},
		"MaxConnLifetimeJitter": {MaxConnLifetimeJitter: -1},
	} {
		err := c.withDefaults().check()
		var configErr *ConfigError
		if !errors.As(err, &configErr) || configErr.Field != field || Hint(err) == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := (Config{}).withDefaults().check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	off := Config{QueryTimeout: -1, SocketTimeout: -1, MaxLag: -1, TokenWait: -1, SlowQuery: -1, MaxRetries: -1, BreakerFailures: -1}.withDefaults()
	if err := off.check(); err != nil {
		t.Errorf("all off: %v", err)
	}
	if off.QueryTimeout != 0 || off.SocketTimeout != 0 || off.MaxLag != 0 || off.MaxRetries != 0 || off.BreakerFailures != 0 {
		t.Errorf("%+v", off)
	}
	if long := (Config{QueryTimeout: time.Hour}).withDefaults(); long.check() != nil {
		t.Errorf("a long query timeout alone: %v", long.check())
	}
}

func TestSameServerTwice(t *testing.T) {
	_, err := prepare(t.Context(), Config{PrimaryURL: "postgres://u@h/d", ReplicaURLs: []string{"postgres://u@h/d"}})
	if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "ReplicaURLs[0]") {
		t.Errorf("%v", err)
	}
}

func TestLSN(t *testing.T) {
	for text, want := range map[string]LSN{"0/0": 0, "16/B374D848": 0x16_B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1} {
		if got, err := ParseLSN(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "/", "1/", "/1", "1/2/3", "g/1", "100000000/1", "-1/1", strings.Repeat("1", 1000)} {
		if got, err := ParseLSN(text); err == nil || len(err.Error()) > 100 {
			t.Errorf("%.20q: %v, %v", text, got, err)
		}
	}
}
