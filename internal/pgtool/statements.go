package pgtool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// maxStatement bounds a statement that is held to be sent whole. The server
// takes no longer one than 1 GiB; pg_dump writes large objects in parts of 16 KiB.
const maxStatement = 256 << 20

// loadStatements gives a dump to the server, statement by statement, without
// psql. Where a statement ends is read as psql would; where the server reads
// otherwise it refuses what it is given, or runs SQL, which the dump may hold
// anyway. Nothing in it is a command to this host.
func loadStatements(ctx context.Context, o LoadOptions) error {
	conn, err := loadSession(ctx, o)
	if ctx.Err() != nil {
		return fmt.Errorf("load the dump: %w", context.Cause(ctx))
	}
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	in := &remember{r: o.Script}
	blocks := NewBlocks(in)
	blocks.line = 1
	blocks.run = func(sql []byte) error {
		return runStatement(ctx, conn.PgConn(), string(sql))
	}
	line := 0
	for err == nil {
		_, err = blocks.Next()
		line = blocks.line
		if err == nil {
			line-- // of the COPY itself
			_, err = conn.PgConn().CopyFrom(ctx, blocks, blocks.sql)
		}
		if failed := blocks.Failure(); failed != nil {
			err = failed
		}
	}
	switch cause := in.failure(); {
	case cause != nil:
		return cause
	case errors.Is(err, io.EOF):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("load the dump: %w", context.Cause(ctx))
	case pgmedic.KindOf(err) == pgmedic.KindIntegrity:
		return err
	}
	return postgres.Wrap(err, fmt.Sprintf("load the dump: line %d", line))
}

// loadSession opens a session that is set as psql's would be.
func loadSession(ctx context.Context, o LoadOptions) (*pgx.Conn, error) {
	theirs := o.Target.Value("options")
	if theirs == "" {
		theirs = os.Getenv("PGOPTIONS")
	}
	ours, statements := loadSettings(o.EventTriggersOff), []string{"RESET ALL", "SELECT pg_catalog.set_config('search_path', '', false)"}
	target := o.Target
	if target.ThroughPooler() {
		statements = append(statements, setSQL(target.Unhurried()+" "+ours))
	} else {
		target = target.With("options", strings.TrimSpace(theirs+" "+ours))
	}
	conn, err := postgres.Connect(ctx, target)
	if err != nil {
		return nil, err
	}
	for _, sql := range statements {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			postgres.Close(ctx, conn)
			return nil, postgres.Wrap(err, "set up the session")
		}
	}
	return conn, nil
}

// runStatement runs SQL and discards what it returns. Should it be a COPY after
// all, the server waits for rows: it is told at once that there are none, which
// it ignores after any other statement.
func runStatement(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn().SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	frontend := conn.Frontend()
	frontend.SendQuery(&pgproto3.Query{String: sql})
	frontend.Send(&pgproto3.CopyFail{Message: "no rows follow"})
	if err := frontend.Flush(); err != nil {
		return fmt.Errorf("send a statement: %w", err)
	}
	var refused error
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		switch message := message.(type) {
		case *pgproto3.ErrorResponse:
			refused = pgconn.ErrorResponseToPgError(message)
		case *pgproto3.ReadyForQuery:
			return refused
		}
	}
}
