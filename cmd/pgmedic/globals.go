package main

import (
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/restore"
)

// globalsWords says what became of the backup's roles and tablespaces, and
// nothing where that was not asked for.
func globalsWords(g *restore.Globals) string {
	if g == nil {
		return ""
	}
	return render.Clean(g.String())
}
