package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// rescue brings single tables back beside the living ones.
func (cmd *restoreCommand) rescue(ctx context.Context, o restore.Options) error {
	live := cmd.flags.database
	if live == "" {
		if live = databaseName(o.Target); live == "" {
			live = o.Backup.Database.Name
		}
	}
	o.Target = o.Target.WithDatabase(live)
	cmd.begin(live)
	ro := rescue.Options{Options: o, Tables: cmd.flags.tables, FromServer: cmd.flags.fromServer, DryRun: cmd.flags.dryRun}
	if cmd.flags.inPlace {
		return cmd.putBack(ctx, ro, "", "")
	}
	done, err := rescue.Run(ctx, ro)
	if err != nil {
		return err
	}
	return cmd.rescued(done)
}

// rescued says what became of a rescue of tables.
func (cmd *restoreCommand) rescued(done *rescue.Rescued) error {
	cmd.restoredBeside(words.Plural(len(done.Tables), "table")+" of backup "+done.BackupID+asOf(done.Moment), "schema "+done.Schema+" of database "+done.Database)
	if cmd.global.json {
		return cmd.printJSON(done)
	}
	if cmd.global.quiet {
		if !done.DryRun {
			cmd.printf("%s\n", done.Schema)
		}
		return nil
	}
	cmd.printRescued(done)
	return nil
}

func (cmd *restoreCommand) printRescued(done *rescue.Rescued) {
	p := cmd.paint(cmd.stdoutTTY)
	tables := words.Plural(len(done.Tables), "table")
	if done.DryRun {
		cmd.wrapf("%s: %s of backup %s%s would come into database %s\n", p.bold("nothing was made"), tables, done.BackupID, asOf(done.Moment), words.Clean(done.Database))
	} else {
		cmd.wrapf("%s %s of backup %s%s into database %s in %s\n", p.good("rescued"), tables, done.BackupID, asOf(done.Moment), words.Clean(done.Database), secondsWords(done.Seconds))
	}
	unlogged := ""
	if done.Unlogged {
		unlogged = "not logged, so that no publication of all tables sends them out; a crash of the server empties them"
	}
	fetched := ""
	if done.Moment == "" { // else all of the base backup and the WAL
		fetched = fmt.Sprintf("%s of %s", words.Bytes(done.FetchBytes), words.Bytes(done.StoredBytes))
	}
	cmd.fields("schema", done.Schema, "fetched", fetched, "tables", unlogged, "compared", comparedWords(done.Tables))
	rows := make([][]string, 0, len(done.Tables))
	for _, t := range done.Tables {
		fetched := "-"
		if t.FetchBytes > 0 {
			fetched = words.Bytes(t.FetchBytes)
		}
		rows = append(rows, []string{t.Table, words.Count(t.Rows), fetched})
	}
	cmd.printf("\n")
	printTable(cmd.env, []string{"TABLE", "ROWS", "FETCHED"}, rows, terminal.TableOptions{Indent: 2, Right: []int{1, 2}})
	for _, t := range done.Tables {
		cmd.printRescuedTable(t, done)
	}
	if !done.DryRun {
		cmd.printSQL("to take all of it away again", done.CleanUp)
	}
}

// asOf names the moment that a copy is of, where it is not that of the backup.
func asOf(moment string) string {
	if moment == "" {
		return ""
	}
	return ", as of " + words.Clean(moment) + ","
}

// comparedWords says how tables were compared with what was read.
func comparedWords(tables []rescue.Table) string {
	equal := 0
	for _, t := range tables {
		switch t.Compared {
		case "":
			return ""
		case pgmedic.ComparedValues:
			equal++
		}
	}
	if equal == len(tables) {
		return "every row, by its values"
	}
	return fmt.Sprintf("every row by its values in %d of %d tables", equal, len(tables))
}

func (cmd *restoreCommand) printRescuedTable(t rescue.Table, done *rescue.Rescued) {
	if !done.DryRun {
		cmd.comment("")
		cmd.comment(t.Table + " is in " + t.As)
	}
	if len(t.AsText) > 0 {
		names := make([]string, len(t.AsText))
		for i, name := range t.AsText {
			names[i] = sqltext.QuoteIdent(name)
		}
		cmd.comment(t.Table + ": as text, because the type is not known here: " + strings.Join(names, ", "))
	}
	if done.DryRun {
		return
	}
	if !t.Live {
		whole := "pgmedic restore ID --into NAME"
		if done.Moment != "" {
			whole = "the same moment with --into NAME"
		}
		cmd.comment("there is no living table of that name: the same command with --in-place makes it again, with all that belonged to it")
		cmd.comment("its definition comes with the whole database, too: " + whole)
	}
	if t.NotByValue != "" {
		cmd.comment(t.Table + " was compared by its number of rows alone: " + t.NotByValue)
	}
	for _, note := range t.Notes {
		cmd.comment(note)
	}
	if t.SQL == nil {
		return
	}
	cmd.printSQL("rows that the backup has and the living table has not", t.SQL.Missing)
	cmd.printSQL("rows that the living table has and the backup has not", t.SQL.Added)
	if t.SQL.Changed != "" {
		cmd.printSQL("rows of the backup that have changed since", t.SQL.Changed)
	}
	cmd.printSQL("put the missing rows back", t.SQL.PutBack)
}

// comment prints a line that SQL passes over; an empty one stays empty.
func (cmd *restoreCommand) comment(text string) {
	if text != "" {
		text = cmd.paint(cmd.stdoutTTY).dim("-- " + words.Clean(text))
	}
	cmd.printf("%s\n", text)
}

// printSQL prints SQL as it is to be pasted: its names hold nothing that could
// drive the terminal.
func (cmd *restoreCommand) printSQL(what, sql string) {
	cmd.comment("")
	cmd.comment(what)
	for line := range strings.Lines(sql + "\n") {
		cmd.printf("%s\n", words.Clean(strings.TrimSuffix(line, "\n")))
	}
}
