package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore/inplace"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// inPlaceFlags say that tables go back where they were.
type inPlaceFlags struct {
	inPlace, missingRows bool
}

// check refuses flags that don't go together.
func (f inPlaceFlags) checkInPlace(flags restoreFlags) error {
	switch {
	case f.missingRows && !f.inPlace:
		return pgmedic.Errorf(pgmedic.KindUsage, "write --table NAME --in-place --missing-rows", "--missing-rows is for --in-place")
	case f.inPlace && len(flags.tables) == 0:
		return pgmedic.Errorf(pgmedic.KindUsage, "name the tables with --table; --swap replaces a whole database", "--in-place is for --table")
	}
	return nil
}

// putBack puts tables back where they were. Of is the backup that o is of in words, where
// that is another one, and moment that of which the tables are, if it is not the backup's.
func (cmd *restoreCommand) putBack(ctx context.Context, o rescue.Options, of, moment string) error {
	var before *inplace.Plan
	done, err := inplace.Run(ctx, inplace.Options{
		Options: o, MissingRows: cmd.flags.missingRows, LockTimeout: cmd.cfg.Backup.LockTimeout, Of: of, Moment: moment,
		Confirm: func(p inplace.Plan) error {
			err := cmd.confirmInPlace(ctx, p, before)
			if err == nil && before == nil {
				err = cmd.trail.intend(ctx, inPlaceIntended(p))
			}
			before = &p
			return err
		},
	})
	if err != nil {
		return err
	}
	if !done.DryRun {
		cmd.restoredBeside(words.Plural(len(done.Tables), "table")+" of backup "+done.BackupID+asOf(done.Moment), "place in database "+done.Database)
	}
	return cmd.printInPlace(done)
}

// inPlaceIntended is what is recorded before a living table is changed.
func inPlaceIntended(p inplace.Plan) act {
	a := act{params: map[string]string{"mode": "in-place", "database": p.Database, "schema": p.Schema}, lists: map[string][]string{}}
	for _, t := range p.Tables {
		name := strings.ReplaceAll(string(t.Action), " ", "_")
		a.lists[name] = append(a.lists[name], t.Table)
	}
	for _, l := range p.LeftOut {
		a.lists["left_out"] = append(a.lists["left_out"], l.Object)
	}
	return a
}

// confirmInPlace shows the plan and asks for the database's name. What can't be put back is
// asked for even with --yes, which was said before it was known. Before is the plan that was
// confirmed already, or nil.
func (cmd *restoreCommand) confirmInPlace(ctx context.Context, p inplace.Plan, before *inplace.Plan) error {
	again := before != nil && !p.LosesMore(*before)
	accepted := len(p.LeftOut) == 0 || cmd.flags.acceptDifferences
	unseen := cmd.global.yes && (cmd.global.quiet || cmd.global.json)
	if !accepted || !again && !unseen {
		cmd.showInPlace(p)
	}
	question := "Put " + words.Plural(len(p.Tables), "table") + " back into database " + words.Clean(p.Database) + "?"
	switch {
	case accepted && again:
		return nil
	case accepted:
		return cmd.confirm(ctx, question, p.Database)
	case !cmd.stdinTTY:
		return pgmedic.Errorf(pgmedic.KindNotConfirmed, "if the tables are to be put back without it, add --accept-differences", "not confirmed: not all can be put back")
	}
	return cmd.askFor(ctx, question+" Not all comes back.", p.Database)
}

// showInPlace prints the plan before the question.
func (cmd *restoreCommand) showInPlace(p inplace.Plan) {
	noticef(cmd.env, "tables of backup %s%s go back into database %s:\n", words.Clean(p.BackupID), asOf(p.Moment), words.Clean(p.Database))
	for _, t := range p.Tables {
		noticef(cmd.env, "  %s: %s\n", words.Clean(t.Table), inPlaceWords(t, false))
		for _, note := range inPlaceNotes(t, false) {
			noticef(cmd.env, "    %s\n", words.Clean(note))
		}
	}
	if len(p.Made) > 0 {
		cmd.before("made again", words.Clean(strings.Join(p.Made, ", ")))
	}
	if len(p.LeftOut) > 0 {
		noticef(cmd.env, "can't be put back:\n")
		for _, l := range p.LeftOut {
			noticef(cmd.env, "  %s: %s\n", words.Clean(l.Object), words.OneLine(l.Reason))
		}
	}
}

// inPlaceWords says what is, or was, done with a table.
func inPlaceWords(t inplace.Table, done bool) string {
	if t.Action == inplace.ActionMake {
		if done {
			return "made again with " + words.Plural(t.Rows, "row")
		}
		return "is not there: made again with " + words.Plural(t.Rows, "row")
	}
	if t.Inserted == nil { // a dry run
		if t.Action == inplace.ActionMissing {
			return "is there: the rows that it lacks are added, of " + words.Plural(t.Rows, "row")
		}
		return "is there: its rows are replaced by " + words.Plural(t.Rows, "row") + ", and kept aside if they differ"
	}
	parts := []string{words.Plural(*t.Inserted, "missing row") + " added"}
	if t.Updated != nil && t.Deleted != nil {
		parts = append(parts, words.Count(*t.Updated)+" corrected", words.Count(*t.Deleted)+" removed")
	}
	return strings.Join(parts, ", ")
}

// inPlaceNotes are further lines about a table.
func inPlaceNotes(t inplace.Table, done bool) []string {
	notes := slices.Clone(t.Notes)
	if t.Action == inplace.ActionReplace && !done {
		notes = append(notes, "rows written since the backup, and until you confirm, are overwritten or removed; --missing-rows keeps them")
	}
	if t.KeptAs != "" {
		verb := "are kept in "
		if done {
			verb = "were kept in "
		}
		notes = append(notes, "the rows that it had "+verb+t.KeptAs)
		if t.KeptUnlogged {
			notes = append(notes, "that table is unlogged, because a publication would send its rows out: a crash or a failover empties it")
		}
	}
	if t.TriggersOff && !done {
		notes = append(notes, "its triggers do not fire, and its writers wait meanwhile")
	}
	return notes
}

// printInPlace prints what was done, or would be.
func (cmd *restoreCommand) printInPlace(done *inplace.Result) error {
	degraded := done.Degraded()
	if done.DryRun {
		degraded = nil
	}
	switch {
	case cmd.global.json:
		if err := cmd.printJSON(done); err != nil {
			return err
		}
		return degraded
	case cmd.global.quiet:
		cmd.printf("%s\n", done.Schema)
		return degraded
	}
	p := cmd.paint(cmd.stdoutTTY)
	tables := words.Plural(len(done.Tables), "table") + " of backup " + words.Clean(done.BackupID) + asOf(done.Moment)
	switch {
	case done.DryRun:
		cmd.wrapf("%s: %s would go back into database %s\n", p.bold("nothing was changed"), tables, words.Clean(done.Database))
	case degraded != nil:
		cmd.wrapf("%s %s into database %s in %s\n", p.bad("put back, but not completely:"), tables, words.Clean(done.Database), secondsWords(done.Seconds))
	default:
		cmd.wrapf("%s %s into database %s in %s\n", p.good("put back"), tables, words.Clean(done.Database), secondsWords(done.Seconds))
	}
	rows := make([][]string, 0, len(done.Tables))
	for _, t := range done.Tables {
		rows = append(rows, []string{t.Table, inPlaceWords(t, !done.DryRun)})
	}
	cmd.printf("\n")
	printTable(cmd.env, []string{"TABLE", "ROWS"}, rows, terminal.TableOptions{Indent: 2, Move: []int{1}})
	for _, t := range done.Tables {
		for _, note := range inPlaceNotes(t, !done.DryRun) {
			cmd.comment(t.Table + ": " + note)
		}
	}
	proven := ""
	if !done.DryRun {
		proven = "each row that was put back equals the rescued one by its values; " + provenRescue(done.Tables)
	}
	cmd.fields("schema", done.Schema, "made again", strings.Join(done.Made, ", "), "compared", proven)
	for _, l := range done.LeftOut {
		cmd.wrapf("  %s %s: %s\n", p.bad("left out"), words.Clean(l.Object), words.OneLine(l.Reason))
	}
	if !done.DryRun {
		cmd.printSQL("to drop the rescued copies and the rows that were kept aside", done.CleanUp)
	}
	return degraded
}

// provenRescue says how the rescued rows were compared with the backup.
func provenRescue(tables []inplace.Table) string {
	equal := 0
	for _, t := range tables {
		if t.Compared == pgmedic.ComparedValues {
			equal++
		}
	}
	if equal == len(tables) {
		return "those equal what the backup recorded"
	}
	return fmt.Sprintf("those equal what the backup recorded in %d of %s, and were counted in the others", equal, words.Plural(len(tables), "table"))
}
