package main

import (
	"context"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/words"
)

// checkCage makes the cage of a drill's server, and says which of its walls are
// missing on this machine.
func (cmd *checkCommand) checkCage(ctx context.Context, l *checklist) {
	const name = "drill cage"
	s := &pgmedic.Scratch{Kind: pgmedic.ScratchPrivate}
	if cmd.cfg.Drill.ScratchURL != "" {
		s.Kind = pgmedic.ScratchGiven
	} else {
		walls, err := scratch.TryCage(ctx, scratch.Options{Parent: cmd.cfg.Drill.ScratchDir, Logger: cmd.log})
		if err != nil {
			l.add(name, pgmedic.OutcomeWarn, words.OneLine(err.Error()), pgmedic.HintOf(err))
			return
		}
		s.Walls, s.MissingWalls = walls.Standing, walls.Missing
	}
	c := drill.CageCheck(s)
	l.add(name, c.Outcome, c.Detail, c.Hint)
}
