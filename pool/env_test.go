package pool

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// TestEnvDefaults: without variables, all is as the original specification says.
func TestEnvDefaults(t *testing.T) {
	c, err := fromEnv(env("DATABASE_URL", "postgres://u@h/d"))
	if err != nil {
		t.Fatal(err)
	}
	c = c.withDefaults()
	if c.MaxConns != 10 || c.AcquireTimeout != 10*time.Second || c.ConnectTimeout != 5*time.Second || c.SocketTimeout != 60*time.Second ||
		c.QueryTimeout != 30*time.Second || c.SlowQuery != time.Second || c.MaxRetries != 3 || c.RetryDelay != time.Second ||
		c.RetryBackoff != 2 || c.HealthInterval != 30*time.Second || len(c.ReplicaURLs) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestEnv(t *testing.T) {
	c, err := fromEnv(env("DB_HOST", "db.example", "DB_PORT", "6432", "DB_NAME", "a/b", "DB_USER", "u@x", "DB_PASSWORD", "p:/?#",
		"DB_READ_REPLICA_URL", " postgres://a/1  postgres://b/2 ", "DB_CONNECTION_LIMIT", "20", "DB_POOL_TIMEOUT", "7", "DB_CONNECT_TIMEOUT", "500ms",
		"DB_SOCKET_TIMEOUT", "0", "DB_QUERY_TIMEOUT", "5000", "DB_SLOW_QUERY_THRESHOLD", "0", "DB_MAX_RETRIES", "0", "DB_RETRY_DELAY", "100",
		"DB_RETRY_BACKOFF", "1.5", "DB_HEALTH_CHECK_INTERVAL", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxConns != 20 || c.AcquireTimeout != 7*time.Second || c.ConnectTimeout != 500*time.Millisecond || c.SocketTimeout != -1 ||
		c.QueryTimeout != 5*time.Second || c.SlowQuery != -1 || c.MaxRetries != -1 || c.RetryDelay != 100*time.Millisecond ||
		c.RetryBackoff != 1.5 || c.HealthInterval != time.Second || len(c.ReplicaURLs) != 2 {
		t.Errorf("%+v", c)
	}
	conn, _, err := parseConnString("PrimaryURL", c.PrimaryURL)
	if err != nil {
		t.Fatal(err)
	}
	if conn.Host != "db.example" || conn.Port != 6432 || conn.Database != "a/b" || conn.User != "u@x" || conn.Password != "p:/?#" {
		t.Errorf("%s %d %s %s", conn.Host, conn.Port, conn.Database, conn.User)
	}
	socket, err := fromEnv(env("DB_HOST", "/run/postgresql", "DB_NAME", "d", "DB_USER", "u"))
	if err != nil {
		t.Fatal(err)
	}
	if conn, _, err := parseConnString("", socket.PrimaryURL); err != nil || conn.Host != "/run/postgresql" {
		t.Errorf("%v", err)
	}
}

// TestEnvReplicas: spaces and commas stand between URLs, and a comma within one is its
// own.
func TestEnvReplicas(t *testing.T) {
	for text, want := range map[string][]string{
		"":                              nil,
		"postgres://a/1":                {"postgres://a/1"},
		"postgres://a/1 postgres://b/2": {"postgres://a/1", "postgres://b/2"},
		"postgres://a/1,postgres://b/2": {"postgres://a/1", "postgres://b/2"},
		" postgres://a/1, \n postgresql://b/2 , ":      {"postgres://a/1", "postgresql://b/2"},
		"postgres://u:p,w@a/1,postgres://b/2?user=1,2": {"postgres://u:p,w@a/1", "postgres://b/2?user=1,2"},
	} {
		c, err := fromEnv(env("DATABASE_URL", "postgres://u@h/d", "DB_READ_REPLICA_URL", text))
		if err != nil || !slices.Equal(c.ReplicaURLs, want) {
			t.Errorf("%q: %q, %v", text, c.ReplicaURLs, err)
		}
	}
}

// TestEnvRefused: every wrong variable is named, all of them at once.
func TestEnvRefused(t *testing.T) {
	_, err := fromEnv(env("DB_NAME", "d", "DB_USER", "u", "DB_PORT", "0", "DB_CONNECTION_LIMIT", "0", "DB_POOL_TIMEOUT", "-1", "DB_QUERY_TIMEOUT", "soon",
		"DB_MAX_RETRIES", "-1", "DB_RETRY_BACKOFF", "NaN", "DB_HEALTH_CHECK_INTERVAL", "0", "DB_READ_REPLICA_URL", "host=r user=u"))
	if !errors.Is(err, ErrConfig) || Hint(err) == "" {
		t.Fatalf("%v", err)
	}
	for _, name := range []string{
		"DB_PORT", "DB_CONNECTION_LIMIT", "DB_POOL_TIMEOUT", "DB_QUERY_TIMEOUT", "DB_MAX_RETRIES", "DB_RETRY_BACKOFF", "DB_HEALTH_CHECK_INTERVAL",
		"DB_READ_REPLICA_URL",
	} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"DATABASE_URL": "postgres://u:hunter2%zz@h/d", "DB_READ_REPLICA_URL": "postgres://a,b/1",
	} {
		_, err := fromEnv(env(name, text, "DB_NAME", "d", "DB_USER", "u"))
		if !errors.Is(err, ErrConfig) || !strings.HasPrefix(err.Error(), name+": ") || strings.Contains(err.Error(), "hunter2") || Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := fromEnv(env()); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "DATABASE_URL") {
		t.Errorf("nothing set: %v", err)
	}
}
