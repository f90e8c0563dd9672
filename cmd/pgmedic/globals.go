package main

import (
	"context"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
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

// globalsMode reports whether a text is a value of --globals, or none.
func globalsMode(text string) bool {
	return slices.Contains([]restore.GlobalsMode{restore.GlobalsNone, restore.GlobalsMissing, restore.GlobalsAll}, restore.GlobalsMode(text))
}

func errGlobalsMode(text string) error {
	return pgmedic.Errorf(pgmedic.KindUsage, "use --globals or --globals=all", "--globals=%s is not valid: the values are missing and all", text)
}

// confirmGlobals says which roles that are there would be changed, all of them,
// and asks. Then it records that they are about to be.
func (e *env) confirmGlobals(ctx context.Context, g restore.Globals) error {
	if !e.global.yes || !e.global.quiet && !e.global.json {
		e.printGlobals(&g)
		if err := e.confirm(ctx, "Change these roles?", "change"); err != nil {
			return err
		}
	}
	return e.trail.intend(ctx, act{lists: map[string][]string{"roles": g.Changed}})
}

// printGlobals prints before a question what becomes of roles.
func (e *env) printGlobals(g *restore.Globals) {
	if g == nil {
		return
	}
	if len(g.Made) > 0 {
		e.before("roles made", words.Clean(strings.Join(g.Made, ", ")))
	}
	if len(g.Superusers) > 0 {
		e.before("superusers", words.Clean(strings.Join(g.Superusers, ", ")))
	}
	if len(g.Powerful) > 0 {
		e.before("powerful", words.Clean(strings.Join(g.Powerful, ", ")))
	}
	if len(g.Changed) > 0 {
		e.before("roles changed", words.Clean(strings.Join(g.Changed, ", "))+
			": attributes, passwords and settings become the backup's, for every database of the server")
	}
}
