// Command clinic is a small service that shows how to use package pool: health,
// readiness and metrics, reads that see what their caller has written, a log of
// slow queries, and an end that cuts no request off.
//
//	DATABASE_URL=postgres://user:password@localhost:5432/clinic go run ./examples/clinic
//
// It takes the variables of pool.FromEnv, CLINIC_LISTEN for its address
// (127.0.0.1:8080), and CLINIC_DRAIN for how long it still serves, not ready, after
// SIGTERM (5s).
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

// shutdownTime is all that the end may take after SIGTERM: to be taken for not ready,
// to end the requests, and to close the pool, which has at least poolTime of it. It
// is well below the 30 seconds after which an orchestrator kills: connections that
// had to be cut take a few seconds more to close.
const (
	shutdownTime = 20 * time.Second
	poolTime     = 2 * time.Second
)

// drainTime is how long the service says that it is not ready, and serves, before
// it takes no more connections: whoever balances the load looks every few seconds.
const drainTime = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// A second signal ends it at once.
	context.AfterFunc(ctx, stop)
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
func run(ctx context.Context, logger *slog.Logger) error {
	drain, err := drainFromEnv()
	if err != nil {
		return err
	}
	config, err := pool.FromEnv()
	if err != nil {
		return err
	}
	config.Logger = logger
	db, err := pool.Open(ctx, config)
	if err != nil {
		return err
	}
	err = serve(ctx, db, logger, drain)
	// After the requests, which need the pool until they end: serve leaves this much.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), poolTime)
	defer cancel()
	return errors.Join(err, db.Shutdown(end))
}

// drainFromEnv reads CLINIC_DRAIN.
func drainFromEnv() (time.Duration, error) {
	text := os.Getenv("CLINIC_DRAIN")
	if text == "" {
		return drainTime, nil
	}
	drain, err := time.ParseDuration(text)
	if err != nil || drain < 0 || drain > shutdownTime-2*poolTime {
		return 0, fmt.Errorf("CLINIC_DRAIN: give a duration such as 5s, from 0s to %s", shutdownTime-2*poolTime)
	}
	return drain, nil
}

// serve answers requests until the context ends and those under way have ended, at
// most until poolTime is left of the shutdownTime.
func serve(ctx context.Context, db *pool.DB, logger *slog.Logger, drain time.Duration) error {
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
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime-poolTime)
	defer cancel()
	// The load balancer is told first and has a moment to notice, then no
	// new request is taken, and those that run are waited for.
	ending.Store(true)
	server.SetKeepAlivesEnabled(false)
	logger.Info("clinic ends", "drain", drain)
	wait(end, drain)
	if err := server.Shutdown(end); err != nil {
		return fmt.Errorf("end the requests: %w", errors.Join(err, server.Close()))
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// routes are what can be asked. While the service ends, it is not ready.
func routes(s *service, ending *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	// Alive means that the process answers. That the database does is not part of
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
