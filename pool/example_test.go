package pool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
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
	fmt.Println(db, err)
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
