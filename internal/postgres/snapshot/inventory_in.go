package snapshot

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// ReadInventoryIn is ReadInventoryWithout and ReadLabels in an exported snapshot, in a
// transaction of conn's that has ended when it returns.
func ReadInventoryIn(ctx context.Context, conn *pgx.Conn, snapshot string, versionNum int, without LeftOut) (*Inventory, error) {
	err := postgres.ExecSimple(ctx, conn, enterSQL(snapshot))
	if err != nil {
		return nil, notEntered(err, "enter the snapshot")
	}
	inventory := &Inventory{Format: InventoryFormat}
	inventory.Definitions, err = ReadInventoryWithout(ctx, conn, versionNum, without)
	if err == nil {
		inventory.SecurityLabels, err = ReadLabels(ctx, conn, without)
	}
	if endErr := postgres.ExecSimple(ctx, conn, "ROLLBACK"); err == nil && endErr != nil {
		err = postgres.Wrap(endErr, "leave the snapshot")
	}
	if postgres.Code(err) == "XX000" {
		err = fmt.Errorf("an object was dropped while its definition was read: %w", err)
	}
	return inventory, err
}

// enterSQL begins a transaction in an exported snapshot.
func enterSQL(id string) string {
	return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + sqltext.QuoteLiteral(id)
}

// notEntered wraps an error of enterSQL. The session that exported a snapshot can be lost
// before this one notices that the server or the way to it is gone: which of the SQLSTATEs it
// then meets depends on the version, see ImportSnapshot in PostgreSQL's snapmgr.c.
func notEntered(err error, what string) error {
	wrapped := postgres.Wrap(err, what)
	switch postgres.Code(err) {
	case "22023", "42704", "55000":
		return pgmedic.Errorf(pgmedic.KindUnreachable, "check the server's log and the network, then run the command again", "the session that exported the snapshot is gone: %w", wrapped)
	}
	return wrapped
}
