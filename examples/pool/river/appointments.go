// Package river books appointments and inserts a job of River's for each, in one
// transaction: either both are there or neither is. Workers run the jobs.
package river

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pgmedic/pgmedic/pool"
)

// Reminder is the job that reminds a patient. It has the number of the appointment and not
// the patient's name, because anyone who can read the queue can read it.
type Reminder struct {
	Appointment int64 `json:"appointment"`
}

// Kind is River's name for the job.
func (Reminder) Kind() string { return "appointment_reminder" }

// Appointments are those of a clinic.
type Appointments struct {
	db   *pool.DB
	jobs *river.Client[pgx.Tx]
}

// New returns the appointments in a database. Its client of River has no pool of its own:
// it inserts jobs in transactions of the pool, and does nothing else.
func New(db *pool.DB) (*Appointments, error) {
	jobs, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("make a client of River: %w", err)
	}
	return &Appointments{db, jobs}, nil
}

// Book adds one and its reminder. InTx runs both again after a conflict or a lost
// connection, and there is one job for one appointment all the same.
func (a *Appointments) Book(ctx context.Context, patient string, room int32) (id int64, err error) {
	err = a.db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error {
		const insert = "INSERT INTO appointments (patient, room) VALUES ($1, $2) RETURNING id"
		if err := tx.QueryRow(ctx, insert, patient, room).Scan(&id); err != nil {
			return err
		}
		_, err := a.jobs.InsertTx(ctx, tx, Reminder{id}, nil)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("book an appointment: %w", err)
	}
	return id, nil
}

// Workers run the jobs. River listens for new ones, for which it needs a pool of pgx's:
// one of NewPlain, which follows the primary.
type Workers struct {
	plain  *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

// reminders runs jobs of one kind.
type reminders struct {
	river.WorkerDefaults[Reminder]
	remind func(ctx context.Context, appointment int64) error
}

// Work runs one job. River runs it again after an error, and after a crash, so reminding
// twice must do no harm.
func (r *reminders) Work(ctx context.Context, job *river.Job[Reminder]) error {
	return r.remind(ctx, job.Args.Appointment)
}

// Start starts workers, which call remind. Stop ends them. Migrate has made River's tables.
func Start(ctx context.Context, db *pool.DB, logger *slog.Logger, remind func(ctx context.Context, appointment int64) error) (_ *Workers, err error) {
	plain, err := db.NewPlain(ctx, pool.PlainOptions{MaxConns: 4})
	if err != nil {
		return nil, fmt.Errorf("open a pool for River: %w", err)
	}
	defer func() {
		if err != nil {
			plain.Close()
		}
	}()
	kinds := river.NewWorkers()
	if err := river.AddWorkerSafely(kinds, &reminders{remind: remind}); err != nil {
		return nil, fmt.Errorf("add the worker: %w", err)
	}
	client, err := river.NewClient(riverpgxv5.New(plain), &river.Config{
		Logger:  logger,
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
		Workers: kinds,
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of River: %w", err)
	}
	// River's Start takes a context whose end stops the workers at once.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, fmt.Errorf("start River: %w", err)
	}
	return &Workers{plain, client}, nil
}

// Migrate brings River's tables to their newest version.
func Migrate(ctx context.Context, db *pool.DB, logger *slog.Logger) error {
	plain, err := db.NewPlain(ctx, pool.PlainOptions{MaxConns: 1})
	if err != nil {
		return fmt.Errorf("open a pool for River's migrations: %w", err)
	}
	defer plain.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(plain), &rivermigrate.Config{Logger: logger})
	if err != nil {
		return fmt.Errorf("read River's migrations: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate River's tables: %w", err)
	}
	return nil
}

// Client is River's, for what is inserted outside a transaction and for its events.
func (w *Workers) Client() *river.Client[pgx.Tx] { return w.client }

// Stop waits for the jobs under way, until ctx ends, then cancels them, and closes the
// workers' pool. Call it before Shutdown of the pool.
func (w *Workers) Stop(ctx context.Context) error {
	err := w.client.Stop(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop River: %w", err), w.client.StopAndCancel(context.WithoutCancel(ctx)))
	}
	w.plain.Close()
	return err
}
