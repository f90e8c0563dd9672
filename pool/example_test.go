package pool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic/pool"
)

func Example() {
	ctx := context.Background()
	db, err := pool.Open(ctx, pool.Config{
		PrimaryURL:  "postgres://app@db1.example/clinic?sslmode=verify-full",
		ReplicaURLs: []string{"postgres://app@db2.example/clinic?sslmode=verify-full"},
		Logger:      slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Println(err, pool.Hint(err))
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		_ = db.Shutdown(ctx)
	}()

	var name string
	err = db.Read(ctx).QueryRow(ctx, "SELECT name FROM patients WHERE id = $1", 7).Scan(&name)
	fmt.Println(name, err)
}

func ExampleFromEnv() {
	config, err := pool.FromEnv()
	if err != nil {
		fmt.Println(err) // names each wrong variable, and no password
		return
	}
	config.Logger = slog.Default()
	db, err := pool.Open(context.Background(), config)
	if err != nil {
		fmt.Println(err, pool.Hint(err))
		return
	}
	defer func() { _ = db.Shutdown(context.Background()) }()
}

// What is wrong with a configuration is said in full, with what to do, and without a
// connection string or a password in it.
func ExampleOpen() {
	_, err := pool.Open(context.Background(), pool.Config{
		PrimaryURL: "postgres://app:hunter2@db1.example/clinic?connection_limit=many",
	})
	fmt.Println(err)
	fmt.Println(errors.Is(err, pool.ErrConfig))
	fmt.Println(pool.Hint(err))
	// Output:
	// PrimaryURL: parameter connection_limit: must be a whole number, at least 1
	// true
	// correct it, or leave it out
}

// Passwords that are valid for minutes, as those of a cloud's IAM, are fetched for
// each connection.
func ExampleConfig_beforeConnect() {
	fetchToken := func(_ context.Context, host, user string) (string, error) { // of the cloud's library
		return "token of " + user + " for " + host, nil
	}
	config := pool.Config{
		PrimaryURL: "postgres://app@db1.example/clinic?sslmode=verify-full",
		BeforeConnect: func(ctx context.Context, c *pgx.ConnConfig) (err error) {
			c.Password, err = fetchToken(ctx, c.Host, c.User)
			return err
		},
	}
	_ = config // for Open
}

func ExampleDB_InTx() {
	var db *pool.DB // of Open
	transfer := func(ctx context.Context, from, to, amount int) error {
		return db.InTx(ctx, pool.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance - $2 WHERE id = $1", from, amount); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + $2 WHERE id = $1", to, amount)
			return err
		})
	}
	// A conflict with another transfer was run again by InTx; what is left is for
	// the caller.
	err := transfer(context.Background(), 1, 2, 100)
	if errors.Is(err, pool.ErrOutcomeUnknown) {
		fmt.Println("look for the transfer before trying again")
	}
}

func ExampleWithToken() {
	// One request writes and hands out a token, a later one reads what it wrote.
	write := func(db *pool.DB, w http.ResponseWriter, r *http.Request) {
		_, _ = db.Exec(r.Context(), "INSERT INTO visits (patient) VALUES ($1)", 7)
		if token, err := db.Token(r.Context()); err == nil {
			w.Header().Set("X-Written-Up-To", token.String())
		}
	}
	read := func(db *pool.DB, r *http.Request) (n int, err error) {
		ctx := r.Context()
		if token, err := pool.ParseLSN(r.Header.Get("X-Written-Up-To")); err == nil {
			ctx = pool.WithToken(ctx, token)
		}
		err = db.Read(ctx).QueryRow(ctx, "SELECT count(*) FROM visits").Scan(&n)
		return n, err
	}
	_, _ = write, read
}

// A statement that may be done twice is tried again even if its connection was lost
// in the middle of it.
func ExampleWithIdempotent() {
	add := func(ctx context.Context, db *pool.DB, visit string) error {
		_, err := db.Exec(pool.WithIdempotent(ctx), "INSERT INTO visits (id) VALUES ($1) ON CONFLICT DO NOTHING", visit)
		return err
	}
	_ = add
}

// The log of slow statements says where one comes from.
func ExampleWithTag() {
	handler := func(db *pool.DB) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			ctx := pool.WithTag(r.Context(), r.Pattern)
			if _, err := db.Exec(ctx, "UPDATE patients SET seen = now()"); err != nil {
				http.Error(w, "this is our fault", http.StatusInternalServerError)
			}
		}
	}
	_ = handler
}

// A session of its own, for what needs one.
func ExampleDB_Acquire() {
	listen := func(ctx context.Context, db *pool.DB) error {
		conn, err := db.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		if _, err := conn.Exec(ctx, "LISTEN appointments"); err != nil {
			return err
		}
		for {
			n, err := conn.Conn().WaitForNotification(ctx)
			if err != nil {
				_, cancelled := conn.Exec(context.WithoutCancel(ctx), "UNLISTEN *")
				return errors.Join(err, cancelled)
			}
			fmt.Println(n.Payload)
		}
	}
	_ = listen
}

// Code for database/sql shares the connections.
func ExampleDB_Stdlib() {
	count := func(ctx context.Context, db *pool.DB) (n int, err error) {
		err = db.Stdlib().QueryRowContext(ctx, "SELECT count(*) FROM patients").Scan(&n)
		return n, err
	}
	_ = count
}

// degraded is a pool that could not reach its server, and tries on.
func degraded() *pool.DB {
	db, err := pool.Open(context.Background(), pool.Config{
		PrimaryURL: "postgres://app@127.0.0.1:1/clinic", StartDegraded: true,
	})
	if err != nil {
		panic(err)
	}
	return db
}

// A readiness check: 503 while there is no primary to write to.
func ExampleDB_HealthHandler() {
	db := degraded()
	defer func() { _ = db.Shutdown(context.Background()) }()
	answer := httptest.NewRecorder()
	db.HealthHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var health pool.Health
	if err := json.Unmarshal(answer.Body.Bytes(), &health); err != nil {
		fmt.Println(err)
		return
	}
	server := health.Servers[0]
	fmt.Println(answer.Code, health.Status)
	fmt.Println(server.Server, server.Role, server.Problem, server.ErrorClass)
	// Output:
	// 503 down
	// 127.0.0.1:1 unknown unreachable unavailable
}

func ExampleDB_Stats() {
	db := degraded()
	defer func() { _ = db.Shutdown(context.Background()) }()
	for _, s := range db.Stats().Servers {
		fmt.Println(s.Server, "in use:", s.InUse, "of", s.Max, "waiting:", s.Waiting, "timeouts:", s.AcquireTimeouts)
	}
	// Output:
	// 127.0.0.1:1 in use: 0 of 10 waiting: 0 timeouts: 0
}

func ExampleDB_WriteMetrics() {
	db := degraded()
	defer func() { _ = db.Shutdown(context.Background()) }()
	var text strings.Builder
	if err := db.WriteMetrics(&text); err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(text.String()) {
		if strings.Contains(line, "pgmedic_pool_server_usable") {
			fmt.Print(line)
		}
	}
	// Output:
	// # HELP pgmedic_pool_server_usable Whether the server is used (1) or has a problem (0).
	// # TYPE pgmedic_pool_server_usable gauge
	// pgmedic_pool_server_usable{server="127.0.0.1:1"} 0
}

func ExampleNormalise() {
	fmt.Println(pool.Normalise("SELECT * FROM patients WHERE ssn = '078-05-1120' AND id IN (7, 8, 9) -- Jane"))
	fmt.Println(pool.Normalise("ALTER ROLE app PASSWORD 'hunter2'"))
	fmt.Println(pool.Normalise("SET app.patient = jane"))
	// Output:
	// SELECT * FROM patients WHERE ssn = ? AND id IN (?)
	// ALTER ROLE app PASSWORD ?
	// SET app.patient = ?
}

func ExampleClassify() {
	err := fmt.Errorf("add the patient: %w", &pgconn.PgError{Code: "23505"})
	fmt.Println(pool.Classify(err), pool.Classify(err).Retryable())
	fmt.Println(pool.Classify(&pgconn.PgError{Code: "40001"}), pool.Classify(&pgconn.PgError{Code: "40001"}).Retryable())
	// Output:
	// constraint false
	// conflict true
}

func ExampleParseLSN() {
	token, err := pool.ParseLSN("16/B374D848")
	fmt.Println(token, err)
	// Output: 16/B374D848 <nil>
}
