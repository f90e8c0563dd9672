// Package bun keeps appointments with bun, over the pool's handle for database/sql.
//
// Bun writes the values into the text of its statements. The pool's slow log and the
// server's pg_stat_statements show them without; a tracer sees them. Each text is another
// one, so preparing it is a round trip for nothing: give such a pool
// default_query_exec_mode=exec.
package bun

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/pgmedic/pgmedic/pool"
)

// Appointment is a row of the table.
type Appointment struct {
	bun.BaseModel `bun:"table:appointments"`

	ID      int64 `bun:"id,pk,autoincrement"`
	Patient string
	Room    int32
}

// Appointments are those of a clinic.
type Appointments struct{ orm *bun.DB }

// New returns the appointments in a database. Shutdown of the pool ends the handle that
// bun uses.
func New(db *pool.DB) *Appointments {
	return &Appointments{bun.NewDB(db.Stdlib(), pgdialect.New())}
}

// Book adds one, in one statement.
func (a *Appointments) Book(ctx context.Context, patient string, room int32) (int64, error) {
	booked := Appointment{Patient: patient, Room: room}
	if _, err := a.orm.NewInsert().Model(&booked).Returning("id").Exec(ctx); err != nil {
		return 0, fmt.Errorf("book an appointment: %w", err)
	}
	return booked.ID, nil
}

// InRoom returns those in a room, as the primary has them.
func (a *Appointments) InRoom(ctx context.Context, room int32) ([]Appointment, error) {
	var list []Appointment
	if err := a.orm.NewSelect().Model(&list).Where("room = ?", room).Order("id").Scan(ctx); err != nil {
		return nil, fmt.Errorf("list the appointments in room %d: %w", room, err)
	}
	return list, nil
}

// Move moves one to another room. An error for which pool.Classify says ClassConflict means
// that nothing was done, and that the caller may try again.
func (a *Appointments) Move(ctx context.Context, id int64, room int32) error {
	err := a.orm.RunInTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, func(ctx context.Context, tx bun.Tx) error {
		moved := Appointment{ID: id}
		if err := tx.NewSelect().Model(&moved).WherePK().Scan(ctx); err != nil {
			return err
		}
		moved.Room = room
		_, err := tx.NewUpdate().Model(&moved).Column("room").WherePK().Exec(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("move appointment %d to room %d: %w", id, room, err)
	}
	return nil
}
