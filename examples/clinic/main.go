// Command clinic is a small service that shows how to use package pool: health,
// readiness and metrics, reads that see what their caller has written, a log of
// slow queries, and an end that cuts nobody off.
//
//	DATABASE_URL=postgres://user:password@localhost:5432/clinic go run ./examples/clinic
//
// It takes the variables of pool.FromEnv, and CLINIC_LISTEN for its address
// (127.0.0.1:8080).
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgmedic/pgmedic/pool"
)

// shutdownTime is what requests have to end after SIGTERM. It is less than the 30
// seconds after which an orchestrator kills.
const shutdownTime = 20 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if hint := pool.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		os.Exit(1)
	}
}

// run serves until the context ends, and then ends what it began.
func run(ctx context.Context, logger *slog.Logger) (err error) {
	config, err := pool.FromEnv()
	if err != nil {
		return err
	}
	config.Logger = logger
	db, err := pool.Open(ctx, config)
	if err != nil {
		return err
	}
	// After the server below: requests need the pool until they end.
	defer func() { err = errors.Join(err, within(ctx, db.Shutdown)) }()
	if err := prepare(ctx, db); err != nil {
		return fmt.Errorf("prepare the tables: %w", err)
	}

	address := os.Getenv("CLINIC_LISTEN")
	if address == "" {
		address = "127.0.0.1:8080"
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("CLINIC_LISTEN: %w", err)
	}
	var ending atomic.Bool
	server := &http.Server{
		Handler: routes(&service{db: db, logger: logger}, &ending), ReadHeaderTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	logger.Info("clinic listens", "address", listener.Addr().String())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	// Whoever balances the load is told first, then no new request is taken, and
	// those that run are waited for.
	ending.Store(true)
	logger.Info("clinic ends")
	if err := within(ctx, server.Shutdown); err != nil {
		return fmt.Errorf("end the requests: %w", err)
	}
	return nil
}

// within calls an end with the time that it has, although the context of all
// else is over.
func within(ctx context.Context, end func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	return end(ctx)
}

// routes are what can be asked. While the service ends, it is not ready.
func routes(s *service, ending *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	// Alive means that the process answers. That the database does is no part of
	// it: a restart of the service would not help.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("alive\n")) })
	ready := s.db.HealthHandler()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if ending.Load() {
			http.Error(w, "ending", http.StatusServiceUnavailable)
			return
		}
		ready.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = s.db.WriteMetrics(w) // who asked may be gone
	})
	mux.HandleFunc("PUT /patients/{id}", s.handle(s.putPatient))
	mux.HandleFunc("GET /patients/{id}", s.handle(s.getPatient))
	mux.HandleFunc("POST /patients/{id}/visits", s.handle(s.addVisit))
	return mux
}
