package restore

import (
	"context"
	"strings"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

// readMoneyAs has every session that loads read amounts of type money as the
// backup's server wrote them. Their text is of lc_monetary: "0,99" of es_AR is 99
// in C, and nothing fails. A database that sets it for itself has it already.
func (s *Session) readMoneyAs(ctx context.Context) error {
	locale, option := databases.MoneyLocale(s.Backup)
	if locale == "" {
		return nil
	}
	conn, err := postgres.ConnectComputing(ctx, s.Database)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	var same bool
	err = conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('lc_monetary') OPERATOR(pg_catalog.=) $1", locale).Scan(&same)
	if err != nil || same {
		return postgres.Wrap(err, "read lc_monetary")
	}
	if postgres.Pooled(conn) {
		return poolerKeeps("lc_monetary")
	}
	if _, err := conn.Exec(ctx, "SELECT pg_catalog.set_config('lc_monetary', $1, false)", locale); err != nil {
		if postgres.Code(err) == "" {
			return postgres.Wrap(err, "set lc_monetary")
		}
		s.Logger.Warn("the server lacks the locale in which the backup has amounts of type money: compare them", "lc_monetary", locale)
		return nil
	}
	s.Database = s.Database.With("options", strings.TrimSpace(s.Database.Value("options")+" "+option))
	return nil
}
