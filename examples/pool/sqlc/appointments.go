// Package sqlc keeps appointments with code that sqlc generated (sqlc.dev, version 1.31.1,
// for pgx/v5): see sqlc.yaml and query.sql.
package sqlc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/examples/pool/sqlc/store"
	"github.com/pgmedic/pgmedic/pool"
)

// Appointments are those of a clinic.
type Appointments struct{ db *pool.DB }

// New returns the appointments in a database.
func New(db *pool.DB) *Appointments { return &Appointments{db} }

// primary has all queries, and reads those that standbys may answer: it is refused what
// writes, wherever it is sent.
func (a *Appointments) primary() store.Querier { return store.New(a.db) }

func (a *Appointments) reads(ctx context.Context) store.Querier { return store.New(a.db.Read(ctx)) }

// Book adds one, in one statement.
func (a *Appointments) Book(ctx context.Context, patient string, room int32) (int64, error) {
	id, err := a.primary().Book(ctx, store.BookParams{Patient: patient, Room: room})
	if err != nil {
		return 0, fmt.Errorf("book an appointment: %w", err)
	}
	return id, nil
}

// Import adds many with COPY, all or none, and returns how many.
func (a *Appointments) Import(ctx context.Context, list []store.ImportParams) (int64, error) {
	n, err := a.primary().Import(ctx, list)
	if err != nil {
		return 0, fmt.Errorf("import %d appointments: %w", len(list), err)
	}
	return n, nil
}

// InRoom returns those in a room. A standby may answer.
func (a *Appointments) InRoom(ctx context.Context, room int32) ([]store.Appointment, error) {
	list, err := a.reads(ctx).InRoom(ctx, room)
	if err != nil {
		return nil, fmt.Errorf("list the appointments in room %d: %w", room, err)
	}
	return list, nil
}

// Move moves one to another room, in a transaction that InTx runs again after a conflict.
func (a *Appointments) Move(ctx context.Context, id int64, room int32) error {
	err := a.db.InTx(ctx, pool.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
		queries := store.New(tx)
		now, err := queries.Room(ctx, id)
		if err != nil || now == room {
			return err
		}
		return queries.Move(ctx, store.MoveParams{ID: id, Room: room})
	})
	if err != nil {
		return fmt.Errorf("move appointment %d to room %d: %w", id, room, err)
	}
	return nil
}
