package main

import (
	"context"
	"strings"

	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/words"
)

// globalsWords says what became of the backup's roles and tablespaces, and
// nothing where that was not asked for.
func globalsWords(g *restore.Globals) string {
	if g == nil {
		return ""
	}
	return words.Clean(g.String())
}

// confirmGlobals says which roles that are there would be changed, all of them,
// and asks.
func (a *app) confirmGlobals(ctx context.Context, g restore.Globals) error {
	if a.global.yes && (a.global.quiet || a.global.json) {
		return nil
	}
	a.printGlobals(&g)
	return a.confirm(ctx, "Change these roles?", "change")
}

// printGlobals prints before a question what becomes of roles.
func (a *app) printGlobals(g *restore.Globals) {
	if g == nil {
		return
	}
	if len(g.Made) > 0 {
		a.before("roles made", words.Clean(strings.Join(g.Made, ", ")))
	}
	if len(g.Changed) > 0 {
		a.before("roles changed", words.Clean(strings.Join(g.Changed, ", "))+
			": attributes, passwords and settings become the backup's, for every database of the server")
	}
}
