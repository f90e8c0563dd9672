package postgres_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func TestParseTarget(t *testing.T) {
	for name, test := range map[string]struct{ in, conninfo, shown, password string }{
		"nothing":         {"", "", "the default server", ""},
		"whole URL":       {"postgres://app:pw@db.example.com:5433/shop?sslmode=require", "host='db.example.com' port='5433' dbname='shop' user='app' sslmode='require'", "app@db.example.com:5433/shop", "pw"},
		"other scheme":    {"postgresql://h", "host='h'", "h", ""},
		"bare URL":        {"postgres://", "", "the default server", ""},
		"percent-encoded": {"postgres://a%40b:p%2F%3F%23%40%3A%25@h/my%20shop%2Fx", "host='h' dbname='my shop/x' user='a@b'", "a@b@h/my shop/x", "p/?#@:%"},
		"at in password":  {"postgres://a:p@w@h/d", "host='h' dbname='d' user='a'", "a@h/d", "p@w"},
		"several hosts":   {"postgres://a@h1:1,h2:2,h3/d", "host='h1,h2,h3' port='1,2,5432' dbname='d' user='a'", "a@h1:1,h2:2,h3:5432/d", ""},
		"IPv6":            {"postgres://[::1]:5433/d", "host='::1' port='5433' dbname='d'", "[::1]:5433/d", ""},
		"IPv6, no port":   {"postgres://[fe80::1]/d", "host='fe80::1' dbname='d'", "fe80::1/d", ""},
		"socket":          {"postgres:///d?host=/var/run/postgresql&port=5433", "host='/var/run/postgresql' port='5433' dbname='d'", "/var/run/postgresql/d", ""},
		"encoded socket":  {"postgres://%2Fvar%2Frun/d", "host='/var/run' dbname='d'", "/var/run/d", ""},
		"Prisma":          {"postgres://a:b@h/d?schema=public&connection_limit=5&pgbouncer=true", "host='h' dbname='d' user='a'", "a@h/d", "b"},
		"password param":  {"postgres://a@h/d?password=pw", "host='h' dbname='d' user='a'", "a@h/d", "pw"},
		"plus":            {"postgres://a@h/d?password=p+w%20x", "host='h' dbname='d' user='a'", "a@h/d", "p+w x"},
		"keywords":        {"host=h port=5433 user=a password=pw dbname=d", "host='h' port='5433' dbname='d' user='a'", "a@h:5433/d", "pw"},
		"quoted":          {`host = h password='it\'s \\ "x"' dbname='my shop'`, "host='h' dbname='my shop'", "h/my shop", `it's \ "x"`},
		"escaped":         {`dbname=my\ shop password=a\\b`, "dbname='my shop'", "/my shop", `a\b`},
		"kept quoted":     {`dbname='it\'s \\'`, `dbname='it\'s \\'`, `/it's \`, ""},
		"empty value":     {"host= dbname=d", "host='dbname=d'", "dbname=d", ""},
		"lines":           {"host=h\n\tdbname=d\n", "host='h' dbname='d'", "h/d", ""},
		"tool's keyword":  {"host=h gssencmode=disable", "host='h' gssencmode='disable'", "h", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "empty value" {
				test = struct{ in, conninfo, shown, password string }{"host='' dbname=d", "dbname='d'", "/d", ""}
			}
			target := postgrestest.Parse(t, test.in)
			if target.Conninfo() != test.conninfo {
				t.Errorf("conninfo %s, want %s", target.Conninfo(), test.conninfo)
			}
			if target.String() != test.shown {
				t.Errorf("shown as %s, want %s", target, test.shown)
			}
			if target.Password() != test.password {
				t.Errorf("password %q, want %q", target.Password(), test.password)
			}
			if test.password != "" && len(test.password) > 1 && strings.Contains(target.String()+target.Conninfo(), test.password) {
				t.Error("the password is shown")
			}
			if target.ThroughPooler() != (name == "Prisma") {
				t.Errorf("through a pooler: %t", target.ThroughPooler())
			}
			if name == "at in password" {
				return // pgx splits at the first, libpq and we at the last
			}
			// The keyword form means the same to pgx.
			ours, err := pgx.ParseConfig(target.With("gssencmode", "").With("password", test.password).Conninfo())
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := pgx.ParseConfig(strings.Split(test.in, "?schema")[0])
			if err != nil {
				testkit.Elsewhere(t, fmt.Sprintf("pgx does not read it: %v", err))
			}
			if ours.Host != theirs.Host || ours.Port != theirs.Port || ours.Database != theirs.Database || ours.User != theirs.User || len(ours.Fallbacks) != len(theirs.Fallbacks) {
				t.Errorf("pgx makes %s:%d/%s of it, and of ours %s:%d/%s", theirs.Host, theirs.Port, theirs.Database, ours.Host, ours.Port, ours.Database)
			}
		})
	}
}

func TestParseTargetRefuses(t *testing.T) {
	const password = "Geheim99"
	for name, in := range map[string]string{
		"slash in password":         "postgres://a:" + password + "/x@h/d",
		"question mark in password": "postgres://a:12?" + password + "=x@h/d",
		"hash in password":          "postgres://a:" + password + "#x@h/d",
		"bad escape":                "postgres://a:" + password + "%zz@h/d",
		"bad port":                  "postgres://a:" + password + "@h:port/d",
		"unknown parameter":         "postgres://a:" + password + "@h/d?sslmod=x",
		"bad parameter":             "postgres://a:" + password + "@h/d?x=%zz",
		"no end of quote":           "host=h password='" + password,
		"space in password":         "host=h password=my " + password + "=1",
		"no pairs":                  password,
		"another scheme":            "mysql://a:" + password + "@h/d",
		"a scheme misspelt":         "dumper://a:" + password + "@h/d?sslmode=require",
		"a scheme in capitals":      "Postgres://a:" + password + "@h/d?sslmode=require",
		"no scheme":                 "a:" + password + "@h/d?sslmode=require",
		"space in URL's password":   "postgres://a:" + password + " x@h/d",
		"parameter like a password": "postgres://a:x@1?" + password + "=y@h/d",
	} {
		t.Run(name, func(t *testing.T) {
			target, err := postgres.ParseTarget(in)
			if err == nil {
				t.Fatalf("it became %s", target)
			}
			postgrestest.WantError(t, err, pgmedic.KindUsage, "connection string: ", "!"+password)
		})
	}
	_, err := postgres.ParseTarget("postgres://a@h/d?sslmod=x")
	postgrestest.WantError(t, err, pgmedic.KindUsage, `unknown parameter "sslmod"`)
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{
		"postgres://u:@h:1,[::1]:2/d?sslmode=require", "host=h password= dbname=d", "postgres://u:/x@h", "host=h password=' \\' x=", "postgres://@h?=x",
	} {
		f.Add(s, uint(12))
		f.Add(s, uint(16))
	}
	f.Fuzz(func(t *testing.T, s string, at uint) {
		const password = "Geheim99Geheim"
		i := int(at % uint(len(s)+1))
		// Where the password marker stands it may be a name; only what is
		// written as a password is one.
		in := s[:i] + password + s[i:]
		target, err := postgres.ParseTarget(in)
		written := strings.HasSuffix(s[:i], "password=") || strings.HasPrefix(s, "postgres://u:") && i == len("postgres://u:")
		if err != nil {
			if written && strings.Contains(err.Error()+pgmedic.HintOf(err), password) {
				t.Errorf("%v quotes the password", err)
			}
			return
		}
		if p := target.Password(); len(p) > 8 && strings.Contains(target.With("user", "").With("host", "").With("dbname", "").String(), p) {
			t.Errorf("%s shows the password", target)
		}
		// What we write we read back.
		again, err := postgres.ParseTarget(target.Conninfo())
		if err != nil || again.Conninfo() != target.Conninfo() {
			t.Errorf("%q is read back as %q: %v", target.Conninfo(), again.Conninfo(), err)
		}
	})
}

// TestConninfo gives what Conninfo writes to a real psql.
func TestConninfo(t *testing.T) {
	_, conn := admin(t)
	for _, name := range []string{`it's "a" \ b=c`, "postgres://x", "größe"} {
		t.Run(name, func(t *testing.T) {
			postgrestest.Run(t, conn, "CREATE DATABASE "+sqltext.QuoteIdent(name)+" TEMPLATE template0")
			t.Cleanup(func() { postgrestest.Run(t, conn, "DROP DATABASE "+sqltext.QuoteIdent(name)) })
			target := postgrestest.Parse(t, server.DSN("postgres")).WithDatabase(name)
			out, err := exec.Command(filepath.Join(server.BinDir(), "psql"), "-XAt", "-c", "SELECT current_database()", "-d", target.Conninfo()).Output()
			if err != nil || strings.TrimSpace(string(out)) != name {
				t.Errorf("psql is in %q: %v", out, err)
			}
			if got := postgrestest.Query[string](t, postgrestest.Connect(t, target), "SELECT current_database()"); got != name {
				t.Errorf("pgx is in %q", got)
			}
		})
	}
}
