// Package scany reads rows into structs with scany. Its queries run on the pool, on what
// Read of the pool returns, or in a transaction of InTx, and keep all that those promise.
package scany

import (
	"context"
	"fmt"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/pool"
)

// Appointment is a row of the table.
type Appointment struct {
	ID      int64
	Patient string
	Room    int32
}

// Appointments are those of a clinic.
type Appointments struct{ db *pool.DB }

// New returns the appointments in a database.
func New(db *pool.DB) *Appointments { return &Appointments{db} }

// Book adds one, in one statement on the primary.
func (a *Appointments) Book(ctx context.Context, patient string, room int32) (int64, error) {
	var booked Appointment
	const insert = "INSERT INTO appointments (patient, room) VALUES ($1, $2) RETURNING id, patient, room"
	if err := pgxscan.Get(ctx, a.db, &booked, insert, patient, room); err != nil {
		return 0, fmt.Errorf("book an appointment: %w", err)
	}
	return booked.ID, nil
}

// InRoom returns those in a room. A standby may answer.
func (a *Appointments) InRoom(ctx context.Context, room int32) ([]Appointment, error) {
	var list []Appointment
	const query = "SELECT id, patient, room FROM appointments WHERE room = $1 ORDER BY id"
	if err := pgxscan.Select(ctx, a.db.Read(ctx), &list, query, room); err != nil {
		return nil, fmt.Errorf("list the appointments in room %d: %w", room, err)
	}
	return list, nil
}

// Move moves one to another room, in a transaction that InTx runs again after a conflict.
func (a *Appointments) Move(ctx context.Context, id int64, room int32) error {
	err := a.db.InTx(ctx, pool.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
		var now Appointment
		if err := pgxscan.Get(ctx, tx, &now, "SELECT id, patient, room FROM appointments WHERE id = $1", id); err != nil {
			return err
		}
		if now.Room == room {
			return nil
		}
		_, err := tx.Exec(ctx, "UPDATE appointments SET room = $2 WHERE id = $1", id, room)
		return err
	})
	if err != nil {
		return fmt.Errorf("move appointment %d to room %d: %w", id, room, err)
	}
	return nil
}
