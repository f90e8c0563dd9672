package pgtool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

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
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	in := &remember{r: o.Script}
	blocks := NewBlocks(in)
	blocks.line = 1
	blocks.run = func(sql []byte) error {
		// Were it a COPY after all, it would wait for rows; to anything else the
		// answer that there are none means nothing.
		_, err := conn.PgConn().CopyFrom(ctx, noRows{}, string(sql))
		return err
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
	options := strings.TrimSpace(theirs + " " + loadSettings(o.EventTriggersOff))
	conn, err := postgres.Connect(ctx, o.Target.With("options", options))
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{"RESET ALL", "SELECT pg_catalog.set_config('search_path', '', false)"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			postgres.Close(ctx, conn)
			return nil, postgres.Wrap(err, "set up the session")
		}
	}
	return conn, nil
}

// noRows ends a COPY that was not foreseen.
type noRows struct{}

// Read implements io.Reader.
func (noRows) Read([]byte) (int, error) { return 0, errors.New("no rows follow") }
