// Package databases has what is done to databases as a whole: they are listed, created,
// locked against a second run, swapped by rename, and dropped; and what stands in the way.
package databases

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// List returns, by name, the databases of a server that hold what users
// put there: those that allow connections and are not templates. Databases with
// a story (those that a swap set aside, and those that a restore is filling, or
// left half filled) are left out: they are copies of others. One whose story can't
// be believed (Kept.Distrust) is a database like any other.
//
// A database that DROP DATABASE left half gone can't be connected to; it is left
// out, too.
func List(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	names, err := postgres.CollectScalar[string](ctx, conn, `SELECT datname::text FROM pg_catalog.pg_database
		WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY datname COLLATE "C"`)
	if err != nil {
		return nil, postgres.Wrap(err, "list the databases")
	}
	stories, err := ReadStories(ctx, conn)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(stories, func(k Kept) bool { return k.Name == name && k.Distrust() == "" })
	}), nil
}
