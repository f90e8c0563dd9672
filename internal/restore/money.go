package restore

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// readMoneyAs has every session that loads read amounts of type money as the
// backup's server wrote them. Their text is of lc_monetary: "0,99" of es_AR is 99
// in C, and nothing fails. A database that sets it for itself has it already.
func (s *Session) readMoneyAs(ctx context.Context) error {
	named := func(c pgmedic.Setting) bool { return c.Role == "" && strings.EqualFold(c.Name, "lc_monetary") }
	recorded := slices.IndexFunc(s.Backup.Server.Settings, named)
	if recorded < 0 || slices.ContainsFunc(s.Backup.Database.Settings, named) {
		return nil
	}
	locale := s.Backup.Server.Settings[recorded].Value
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
	if _, err := conn.Exec(ctx, "SELECT pg_catalog.set_config('lc_monetary', $1, false)", locale); err != nil {
		if postgres.Code(err) == "" {
			return postgres.Wrap(err, "set lc_monetary")
		}
		s.Logger.Warn("the server lacks the locale in which the backup has amounts of type money: compare them", "lc_monetary", locale)
		return nil
	}
	option := "-c lc_monetary=" + strings.NewReplacer(`\`, `\\`, " ", `\ `).Replace(locale)
	s.Database = s.Database.With("options", strings.TrimSpace(s.Database.Value("options")+" "+option))
	return nil
}
