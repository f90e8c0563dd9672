package snapshot

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// ReadInventoryIn is ReadInventoryWithout and ReadLabels in an exported snapshot, in a
// transaction of conn's that has ended when it returns.
func ReadInventoryIn(ctx context.Context, conn *pgx.Conn, snapshot string, versionNum int, without LeftOut) (*Inventory, error) {
	err := postgres.ExecSimple(ctx, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT "+sqltext.QuoteLiteral(snapshot))
	if err != nil {
		return nil, postgres.Wrap(err, "enter the snapshot")
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
