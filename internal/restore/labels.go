package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// prepareLabels refuses a server that has not loaded the libraries of the backup's
// security labels, or leaves the labels out where that is what was asked for: what
// a label hides would otherwise be seen.
func (s *Session) prepareLabels(ctx context.Context) error {
	if s.Without.Owners {
		return nil
	}
	missing, err := databases.MissingLabelProviders(ctx, s.admin, s.Backup.Database.LabelProviders)
	if err != nil || len(missing) == 0 {
		return err
	}
	if s.LabelsOptional {
		s.Without.Labels = true
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage,
		"add the library of each to shared_preload_libraries and restart the server, or to session_preload_libraries of the restoring role; --into with --no-owner leaves labels out, with owners and rights",
		"the server has not loaded the security label providers that the backup needs: %s", strings.Join(quoted(missing), ", "))
}

// compareLabels compares the security labels of a copy with those that the backup
// recorded. Nil means that neither has any.
func compareLabels(ctx context.Context, conn *pgx.Conn, source snapshot.Inventory, b *pgmedic.Backup, without dumpsql.Without) (*pgmedic.Check, error) {
	copied, err := snapshot.ReadLabels(ctx, conn, snapshot.LeftOut{})
	if err != nil || len(copied) == 0 && len(source.SecurityLabels) == 0 {
		return nil, err
	}
	check := &pgmedic.Check{Name: "security labels", Outcome: pgmedic.OutcomeSkipped}
	switch {
	case source.SecurityLabels == nil:
		check.Detail = "the backup does not record them: another version of pgmedic took it"
		return check, nil
	case without.Owners:
		check.Detail = "left out with the owners, as requested"
		return check, nil
	}
	missing, err := databases.MissingLabelProviders(ctx, conn, b.Database.LabelProviders)
	if err != nil {
		return nil, err
	}
	want, left := source.SecurityLabels, 0
	if len(missing) > 0 { // where one is missing all labels were left out
		want, left = nil, len(source.SecurityLabels)
	}
	diffs := snapshot.CompareInventories(want, copied)
	if without.Rows {
		diffs = slices.DeleteFunc(diffs, func(d snapshot.Difference) bool { return strings.Contains(d.Identity, " on large object ") })
	}
	switch {
	case len(diffs) > 0:
		check.Outcome, check.Detail = pgmedic.OutcomeFailed, words.FirstFew(differences(diffs))
	case left > 0:
		check.Detail = fmt.Sprintf("%s not restored and not compared: this server has not loaded the providers %s",
			pgmedic.Count(left), strings.Join(quoted(missing), ", "))
		check.Hint = "name their libraries in drill.preload_libraries to have labels drilled, too"
	default:
		check.Outcome, check.Detail = pgmedic.OutcomeOK, pgmedic.Count(len(want))+" as recorded"
	}
	return check, nil
}

func quoted(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = sqltext.QuoteIdent(name)
	}
	return all
}
