package main

import (
	"context"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
)

// countsOnly says why the rows of a restored copy are only counted; empty means that
// they are compared value by value. Asked is what --compare says.
func (a *app) countsOnly(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, asked string) (string, error) {
	switch pgmedic.Comparison(asked) {
	case pgmedic.ComparedValues:
		return "", nil
	case pgmedic.ComparedCounts:
		return "not compared, as was asked for", nil
	}
	e, err := c.Get(ctx, b.ID, a.trusting(catalog.Filter{}))
	if err != nil {
		return "", err
	}
	if at, ok := e.ProvenByValue(); ok {
		return "not compared again: the drill of " + at.UTC().Format("2006-01-02 15:04:05Z") + " proved this backup by value (--compare values compares)", nil
	}
	return "", nil
}

// checkComparison refuses a --compare that means nothing.
func checkComparison(asked string, flags restoreFlags) error {
	switch pgmedic.Comparison(asked) {
	case "":
		return nil
	case pgmedic.ComparedValues, pgmedic.ComparedCounts:
	default:
		return pgmedic.Errorf(pgmedic.KindUsage, "say --compare values or --compare counts", "--compare is values or counts, not %q", asked)
	}
	if len(flags.tables) > 0 || flags.schemaOnly {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave --compare out", "--compare is for restores of whole databases with their rows")
	}
	return nil
}
