package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// rescue brings single tables back beside the living ones.
func (a *app) rescue(ctx context.Context, o restore.Options, flags restoreFlags) error {
	live := flags.database
	if live == "" {
		if live = a.databaseName(o.Target); live == "" {
			live = o.Backup.Database.Name
		}
	}
	o.Target = o.Target.WithDatabase(live)
	done, err := restore.Rescue(ctx, restore.RescueOptions{
		Options: o, Tables: flags.tables, FromServer: flags.fromServer, DryRun: flags.dryRun,
	})
	if err != nil {
		return err
	}
	if a.global.json {
		return a.printJSON(done)
	}
	if a.global.quiet {
		if !done.DryRun {
			a.printf("%s\n", done.Schema)
		}
		return nil
	}
	a.printRescued(done)
	return nil
}

func (a *app) printRescued(done *restore.Rescued) {
	p := a.paint(a.stdoutTTY)
	tables := fmt.Sprintf("%d tables", len(done.Tables))
	if len(done.Tables) == 1 {
		tables = "1 table"
	}
	if done.DryRun {
		a.printf("%s: %s of backup %s would come into database %s\n", p.bold("nothing was made"), tables, done.BackupID, words.Clean(done.Database))
	} else {
		a.printf("%s %s of backup %s into database %s in %s\n", p.good("rescued"), tables, done.BackupID, words.Clean(done.Database), secondsWords(done.Seconds))
	}
	unlogged := ""
	if done.Unlogged {
		unlogged = "not logged, so that no publication of all tables sends them out; a crash of the server empties them"
	}
	a.fields("schema", done.Schema, "fetched", fmt.Sprintf("%s of %s", words.Bytes(done.FetchBytes), words.Bytes(done.StoredBytes)), "tables", unlogged)
	rows := make([][]string, 0, len(done.Tables))
	for _, t := range done.Tables {
		fetched := "-"
		if t.FetchBytes > 0 {
			fetched = words.Bytes(t.FetchBytes)
		}
		rows = append(rows, []string{t.Table, words.Count(t.Rows), fetched})
	}
	a.printf("\n%s", terminal.Table([]string{"TABLE", "ROWS", "FETCHED"}, rows, terminal.TableOptions{Indent: 2, Right: []int{1, 2}, Color: p.on}))
	for _, t := range done.Tables {
		a.printRescuedTable(t, done.DryRun)
	}
	if !done.DryRun {
		a.printSQL("to take all of it away again", done.CleanUp)
	}
}

func (a *app) printRescuedTable(t restore.RescuedTable, dryRun bool) {
	if !dryRun {
		a.comment("")
		a.comment(t.Table + " is in " + t.As)
	}
	if len(t.AsText) > 0 {
		names := make([]string, len(t.AsText))
		for i, name := range t.AsText {
			names[i] = sqltext.QuoteIdent(name)
		}
		a.comment(t.Table + ": as text, because the type is not known here: " + strings.Join(names, ", "))
	}
	if dryRun {
		return
	}
	if !t.Live {
		a.comment("there is no living table of that name; its definition comes back with the whole backup: pgmedic restore ID --into NAME")
	}
	for _, note := range t.Notes {
		a.comment(note)
	}
	if t.SQL == nil {
		return
	}
	a.printSQL("rows that the backup has and the living table has not", t.SQL.Missing)
	a.printSQL("rows that the living table has and the backup has not", t.SQL.Added)
	if t.SQL.Changed != "" {
		a.printSQL("rows of the backup that have changed since", t.SQL.Changed)
	}
	a.printSQL("put the missing rows back", t.SQL.PutBack)
}

// comment prints a line that SQL passes over; an empty one stays empty.
func (a *app) comment(text string) {
	if text != "" {
		text = a.paint(a.stdoutTTY).dim("-- " + words.Clean(text))
	}
	a.printf("%s\n", text)
}

// printSQL prints SQL as it is to be pasted: its names hold nothing that could
// drive the terminal.
func (a *app) printSQL(what, sql string) {
	a.comment("")
	a.comment(what)
	for line := range strings.Lines(sql + "\n") {
		a.printf("%s\n", words.Clean(strings.TrimSuffix(line, "\n")))
	}
}
