package postgres_test

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// TestSessionOfHostileDatabase opens a session with a database whose settings
// would change what our statements mean, or end them.
func TestSessionOfHostileDatabase(t *testing.T) {
	target, conn := database(t)
	hostile := map[string]string{
		"search_path": "public, pg_catalog", "statement_timeout": "1", "lock_timeout": "1", "idle_in_transaction_session_timeout": "1",
		"default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
		"standard_conforming_strings": "off", "array_nulls": "off", "bytea_output": "escape", "datestyle": "SQL, DMY",
		"intervalstyle": "sql_standard", "timezone": "Asia/Tokyo", "extra_float_digits": "0", "xmloption": "document",
		"client_encoding": "LATIN1", "row_security": "on", "jit": "on",
	}
	for name, value := range hostile {
		if _, err := conn.Exec(t.Context(), "ALTER DATABASE "+sqltext.QuoteIdent(target.Database())+" SET "+name+" = "+settingValue(name, value)); err != nil {
			t.Fatal(err)
		}
	}
	conn = postgrestest.Connect(t, target)
	for name, want := range map[string]string{
		"search_path": "", "statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
		"default_transaction_read_only": "off", "default_transaction_isolation": "read committed", "default_transaction_deferrable": "off",
		"standard_conforming_strings": "on", "array_nulls": "on", "bytea_output": "hex", "DateStyle": "ISO, DMY",
		"IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "3", "xmloption": "content",
		"client_encoding": "UTF8", "row_security": "off", "jit": "off",
	} {
		var got string
		if err := conn.QueryRow(t.Context(), "SELECT pg_catalog.current_setting($1)", name).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// settingValue quotes a value unless it is a list of names.
func settingValue(name, value string) string {
	if name == "search_path" || name == "datestyle" {
		return value
	}
	return sqltext.QuoteLiteral(value)
}

// TestOwnPath gives a session the path that the database sets.
func TestOwnPath(t *testing.T) {
	target, conn := database(t)
	if _, err := conn.Exec(t.Context(), "ALTER DATABASE "+sqltext.QuoteIdent(target.Database())+` SET search_path = "we ""ird", public`); err != nil {
		t.Fatal(err)
	}
	conn = postgrestest.Connect(t, target)
	if err := postgres.OwnPath(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := conn.QueryRow(t.Context(), "SHOW search_path").Scan(&got); err != nil || got != `"we ""ird", public` {
		t.Errorf("the path is %q, %v", got, err)
	}
}

// TestServerThatHangsUp connects to what accepts and closes: that is no matter of
// certificates, whatever the names in the address are.
func TestServerThatHangsUp(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 8)) // what asks for TLS, or begins a session
			_ = conn.Close()
		}
	}()
	for _, name := range []string{"x", "tls_db", "x509: certificate signed by unknown authority"} {
		for _, mode := range []string{"disable", "prefer", "require", "verify-full"} {
			_, err := postgres.Connect(t.Context(), postgrestest.Parse(t, "postgres://tls_user:p@"+listener.Addr().String()+"/"+url.PathEscape(name)+"?sslmode="+mode))
			hint := pgmedic.HintOf(err)
			if pgmedic.KindOf(err) != pgmedic.KindUnreachable || strings.Contains(err.Error(), "TLS") || strings.Contains(hint, "sslmode") {
				t.Errorf("database %q, sslmode=%s: %v (%s)", name, mode, err, hint)
			}
		}
	}
}

// TestServerWithoutTLS asks a server for TLS that has none.
func TestServerWithoutTLS(t *testing.T) {
	_, err := postgres.Connect(t.Context(), postgrestest.Parse(t, server.URL("postgres")).With("sslmode", "require"))
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "TLS") {
		t.Error(err)
	}
}
