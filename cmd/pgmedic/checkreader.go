package main

import (
	"context"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqlfiles"
)

// checkReader checks whether the role may read the server's files by SQL, where physical backups
// are to do so.
func (cmd *checkCommand) checkReader(ctx context.Context, l *checklist, t postgres.Target) {
	if cmd.cfg.Backup.Reader != readerSQL {
		return
	}
	const name = "reader sql"
	if t.Database() == "" {
		t = t.WithDatabase(cmd.cfg.Database.MaintenanceDatabase)
	}
	conn, err := postgres.Connect(ctx, t)
	if err == nil {
		defer postgres.Close(ctx, conn)
		err = sqlfiles.Check(ctx, conn)
	}
	if err != nil {
		l.fail(name, err)
		return
	}
	l.ok(name, "the role may call the functions that read the server's files")
}
