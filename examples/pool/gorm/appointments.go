// Package gorm keeps appointments with gorm, over the pool's handle for database/sql.
package gorm

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgmedic/pgmedic/pool"
)

// Appointment is a row of the table.
type Appointment struct {
	ID      int64 `gorm:"primaryKey"`
	Patient string
	Room    int32
}

// Appointments are those of a clinic.
type Appointments struct{ orm *gorm.DB }

// New returns the appointments in a database. Shutdown of the pool ends the handle that
// gorm uses.
//
// Without SkipDefaultTransaction gorm makes a transaction of each write, which costs two
// more round trips. Its logger writes statements with their values, so it is off; the
// pool's slow log has them without.
func New(db *pool.DB) (*Appointments, error) {
	orm, err := gorm.Open(postgres.New(postgres.Config{Conn: db.Stdlib()}), &gorm.Config{
		SkipDefaultTransaction: true,
		Logger:                 logger.Discard,
	})
	if err != nil {
		return nil, fmt.Errorf("open gorm on the pool: %w", err)
	}
	return &Appointments{orm}, nil
}

// Book adds one, in one statement.
func (a *Appointments) Book(ctx context.Context, patient string, room int32) (int64, error) {
	booked := Appointment{Patient: patient, Room: room}
	if err := a.orm.WithContext(ctx).Create(&booked).Error; err != nil {
		return 0, fmt.Errorf("book an appointment: %w", err)
	}
	return booked.ID, nil
}

// InRoom returns those in a room, as the primary has them.
func (a *Appointments) InRoom(ctx context.Context, room int32) ([]Appointment, error) {
	var list []Appointment
	if err := a.orm.WithContext(ctx).Where("room = ?", room).Order("id").Find(&list).Error; err != nil {
		return nil, fmt.Errorf("list the appointments in room %d: %w", room, err)
	}
	return list, nil
}

// Move moves one to another room. An error for which pool.Classify says ClassConflict means
// that nothing was done, and that the caller may try again.
func (a *Appointments) Move(ctx context.Context, id int64, room int32) error {
	err := a.orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var moved Appointment
		if err := tx.First(&moved, id).Error; err != nil {
			return err
		}
		return tx.Model(&moved).Update("room", room).Error
	}, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return fmt.Errorf("move appointment %d to room %d: %w", id, room, err)
	}
	return nil
}
