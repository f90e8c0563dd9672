package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

const secret = "123-45-6789"

func TestConnectErrors(t *testing.T) {
	good := postgrestest.Parse(t, server.URL("postgres"))
	closed := strconv.Itoa(testkit.ClosedPort(t))
	// Of a label of 64 letters no machine asks its name server.
	unknown := strings.Repeat("n", 64) + ".invalid"
	for name, test := range map[string]struct {
		target postgres.Target
		kind   pgmedic.Kind
		texts  []string
	}{
		"no server":        {postgrestest.Parse(t, "host=127.0.0.1 dbname=d user=u port="+closed), pgmedic.KindUnreachable, []string{"PostgreSQL at 127.0.0.1:" + closed + ": ", "refused", "DATABASE_URL"}},
		"no socket":        {postgrestest.Parse(t, "host=/no/such/folder dbname=d user=u"), pgmedic.KindUnreachable, []string{"/no/such/folder (port 5432)", "no such file"}},
		"wrong password":   {good.With("password", secret), pgmedic.KindUnreachable, []string{"password authentication failed", "DB_PASSWORD", "!" + secret}},
		"unknown database": {good.WithDatabase("nonesuch"), pgmedic.KindNotFound, []string{`"nonesuch" does not exist`, "DB_NAME"}},
		"unknown host":     {good.With("host", unknown), pgmedic.KindUnreachable, []string{"no such host", "DB_HOST", "!" + server.Password()}},
		"TLS not offered":  {good.With("sslmode", "require"), pgmedic.KindUnreachable, []string{"!" + server.Password()}},
		"bad port":         {good.With("port", "99999"), pgmedic.KindUsage, []string{"connection string: ", "!" + server.Password()}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := postgres.Connect(t.Context(), test.target)
			if err == nil {
				postgres.Close(t.Context(), conn)
			}
			postgrestest.WantError(t, err, test.kind, test.texts...)
		})
	}
}

// TestLostConnections tells by its type, and by no word of it, whether an error is that
// of a connection.
func TestLostConnections(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		lost bool
	}{
		"closed by us":       {fmt.Errorf("x: %w", pgconn.ErrConnClosed), true},
		"ended":              {fmt.Errorf("receive message failed: %w", io.ErrUnexpectedEOF), true},
		"reset":              {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true},
		"a pipe":             {os.NewSyscallError("write", syscall.EPIPE), true},
		"of that name":       {errors.New(`no table "conn closed"`), false},
		"of a file's name":   {errors.New("open /backups/broken pipe: permission denied"), false},
		"of the store's own": {pgmedic.Errorf(pgmedic.KindFailed, "", "put: %w", &net.OpError{Op: "write", Err: syscall.ECONNRESET}), false},
	} {
		t.Run(name, func(t *testing.T) {
			err := postgres.Wrap(test.err, "copy table x")
			if lost := strings.Contains(err.Error(), "the connection was lost"); lost != test.lost {
				t.Errorf("%v", err)
			}
			if kind := pgmedic.KindOf(err); (kind == pgmedic.KindUnreachable) != test.lost {
				t.Errorf("its kind is %s", kind)
			}
		})
	}
}

// TestConnectCancelled: a server that accepts and says nothing.
func TestConnectCancelled(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	target := postgrestest.Parse(t, "host=127.0.0.1 dbname=d user=u password=p port="+port)
	cause := errors.New("the caller had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := postgres.Connect(ctx, target); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	_, err = postgres.Connect(t.Context(), target.With("connect_timeout", "1"))
	postgrestest.WantError(t, err, pgmedic.KindUnreachable, "timed out: the connection was accepted, and no answer came", "PostgreSQL listens on that port")
}

// TestConnectToAnotherProgram: a server that answers, and is none of PostgreSQL.
func TestConnectToAnotherProgram(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			// As web servers do with what is no request.
			_, _ = conn.Read(make([]byte, 1024))
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-stopped })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, mode := range []string{"disable", "prefer"} {
		_, err := postgres.Connect(t.Context(), postgrestest.Parse(t, "host=127.0.0.1 dbname=d user=u password=p port="+port+" sslmode="+mode))
		postgrestest.WantError(t, err, pgmedic.KindUnreachable, "127.0.0.1:"+port+": what answers there is not PostgreSQL", "DB_PORT")
	}
}

func TestSession(t *testing.T) {
	target, _ := database(t)
	conn := postgrestest.Connect(t, target.With("options", "-c statement_timeout=5000 -c timezone=Asia/Tokyo"))
	for name, want := range map[string]string{
		"statement_timeout": "0", "TimeZone": "UTC", "search_path": "", "DateStyle": "ISO, MDY", "application_name": "pgmedic",
	} {
		if got := postgrestest.Query[string](t, conn, "SELECT current_setting($1)", name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestWrap(t *testing.T) {
	_, conn := database(t)
	postgrestest.Run(t, conn, `CREATE TABLE public.patients (ssn text PRIMARY KEY, n int CONSTRAINT "n is positive" CHECK (n > 0))`,
		"INSERT INTO public.patients VALUES ('"+secret+"', 1)")
	for name, test := range map[string]struct {
		sql  string
		kind pgmedic.Kind
		want []string
	}{
		"unique":           {"INSERT INTO public.patients VALUES ('" + secret + "', 2)", 0, []string{`unique violation on constraint "patients_pkey" of table "public"."patients"`, "23505"}},
		"check":            {"INSERT INTO public.patients VALUES ('" + secret + "-b', -1)", 0, []string{`check violation on constraint "n is positive"`}},
		"invalid input":    {"SELECT '" + secret + "'::int", 0, []string{"invalid text representation", "22P02"}},
		"raised":           {"DO $$BEGIN RAISE EXCEPTION 'patient " + secret + "'; END$$", 0, []string{"raise exception", "P0001"}},
		"raised as others": {"DO $$BEGIN RAISE EXCEPTION 'patient " + secret + "' USING ERRCODE = '42501'; END$$", pgmedic.KindUnreachable, []string{"insufficient privilege (SQLSTATE 42501)"}},
		"syntax error":     {"SELEKT '" + secret + "'", 0, []string{"syntax error (SQLSTATE 42601)"}},
		"no table":         {"SELECT * FROM public.nonesuch WHERE x = '" + secret + "'", 0, []string{`relation "public.nonesuch" does not exist`}},
		"no column":        {"SELECT nonesuch FROM public.patients", 0, []string{`column "nonesuch" does not exist`}},
		"exists":           {"CREATE DATABASE postgres", pgmedic.KindConflict, []string{`database "postgres" already exists`}},
		"locked":           {"DO $$BEGIN RAISE lock_not_available; END$$", pgmedic.KindConflict, []string{"SQLSTATE 55P03"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := conn.Exec(t.Context(), test.sql)
			wrapped := postgres.Wrap(err, "try")
			postgrestest.WantError(t, wrapped, test.kind, append(test.want, "try: ", "!"+secret)...)
			var e *postgres.ServerError
			if !errors.As(wrapped, &e) || strings.Contains(test.sql, "public.patients VALUES") && !strings.Contains(e.Unredacted(), secret) {
				t.Errorf("unredacted: %+v", e)
			}
			if postgres.Code(wrapped) == "" || postgres.Code(wrapped) != postgres.Code(err) {
				t.Errorf("codes %q and %q", postgres.Code(wrapped), postgres.Code(err))
			}
		})
	}
	if postgres.Wrap(nil, "try") != nil {
		t.Error("nil does not stay nil")
	}
}

func TestWrapLostConnection(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, postgrestest.Connect(t, target), "SELECT pg_terminate_backend("+postgrestest.Query[string](t, conn, "SELECT pg_backend_pid()::text")+")")
	for range 2 { // the first tells why, the second only that it is gone
		_, err := conn.Exec(t.Context(), "SELECT 1")
		postgrestest.WantError(t, postgres.Wrap(err, "try"), pgmedic.KindUnreachable, "log")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := postgrestest.Connect(t, target).Exec(ctx, "SELECT 1")
	postgrestest.WantError(t, postgres.Wrap(err, "try"), pgmedic.KindInterrupted, "!lost")
}

// TestRefusedContent tells what the server refuses for what it says from what it can't
// do now, and from damage.
func TestRefusedContent(t *testing.T) {
	for code, want := range map[string]bool{
		"": false, "23514": true, "42P01": true, "22P02": true, "P0001": true, "58P01": true, "55000": true, "0A000": true,
		"XX000": true, "XX001": false, "XX002": false, "58030": false, "55P03": false, "08006": false, "25006": false, "28000": false,
		"40P01": false, "53100": false, "57014": false,
	} {
		if got := postgres.RefusedContent(&postgres.ServerError{Code: code}); got != want {
			t.Errorf("RefusedContent(%q) = %t, want %t", code, got, want)
		}
	}
	if postgres.RefusedContent(errors.New("no server said this")) || postgres.RefusedContent(nil) {
		t.Error("what no server said is refused content")
	}
}
