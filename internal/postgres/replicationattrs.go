package postgres

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic"
)

// The errors of a server that is not of the kind that target_session_attrs asks for.
var (
	errReadOnly  = errors.New("the server takes no writes, and target_session_attrs asks for one that does")
	errReadWrite = errors.New("the server takes writes, and target_session_attrs asks for one that does not")
)

// replicationAttrs makes what checks target_session_attrs on a connection for replication:
// pgx asks in SQL, which such a connection does not understand. It is nil where any server
// will do.
func replicationAttrs(asked pgconn.ValidateConnectFunc) (pgconn.ValidateConnectFunc, error) {
	is := func(f pgconn.ValidateConnectFunc) bool {
		return reflect.ValueOf(asked).Pointer() == reflect.ValueOf(f).Pointer()
	}
	switch {
	case asked == nil:
		return nil, nil
	case is(pgconn.ValidateConnectTargetSessionAttrsReadWrite), is(pgconn.ValidateConnectTargetSessionAttrsPrimary):
		return wantsStandby(false), nil
	case is(pgconn.ValidateConnectTargetSessionAttrsReadOnly), is(pgconn.ValidateConnectTargetSessionAttrsStandby):
		return wantsStandby(true), nil
	}
	return nil, pgmedic.Errorf(pgmedic.KindUsage, "use read-write, primary, read-only, standby or any", "a connection for replication does not know target_session_attrs=prefer-standby")
}

// wantsStandby accepts standbys alone, or all but those. A server of version 12 or 13 on
// which transactions are read only by default is taken for one.
func wantsStandby(want bool) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		// The commands of this protocol are in capitals.
		setting := "in_hot_standby"
		digits, _, _ := strings.Cut(conn.ParameterStatus("server_version"), ".")
		if major, err := strconv.Atoi(digits); err == nil && major < 14 {
			setting = "transaction_read_only"
		}
		results, err := conn.Exec(ctx, "SHOW "+setting).ReadAll()
		if err != nil {
			return err
		}
		if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1 {
			return errors.New("the server does not say whether it is a standby")
		}
		switch standby := string(results[0].Rows[0][0]) == "on"; {
		case standby && !want:
			return errReadOnly
		case !standby && want:
			return errReadWrite
		}
		return nil
	}
}
