package main

import (
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic/internal/diff"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// mostChanges is how many changes of each kind are printed without --all.
const mostChanges = 40

// narrow is the width of lines where no terminal says another.
const narrow = 80

// print writes what changed, in lines of 80 columns or those of the terminal.
func (cmd *diffCommand) print(r diffResult) {
	if cmd.global.quiet { // what a script needs: the names
		for _, t := range r.Tables {
			cmd.printf("%s table %s\n", t.Change, words.Clean(t.Name))
		}
		for _, d := range r.Definitions {
			cmd.printf("%s %s %s\n", d.Change, words.Clean(d.Kind), words.Clean(d.Identity))
		}
		return
	}
	cmd.fields("from", r.From.words(), "to", r.To.words(), "tables", stepWord(int64(r.TablesBefore), int64(r.TablesNow)), "rows", stepWord(r.RowsBefore, r.Rows))
	cmd.printTables(r.Tables)
	cmd.printColumns(r.Tables)
	cmd.printDefinitions(r.Definitions)
	cmd.printNot(r)
}

// stepWord is 18 → 17, or 18 where nothing changed.
func stepWord(before, now int64) string {
	if before == now {
		return words.Count(now)
	}
	return words.Count(before) + " → " + words.Count(now)
}

func (cmd *diffCommand) printTables(tables []diff.Table) {
	rows := make([][]string, 0, len(tables))
	for _, t := range tables {
		difference := ""
		before, now := int64(0), int64(0)
		if t.RowsBefore != nil {
			before = *t.RowsBefore
		}
		if t.Rows != nil {
			now = *t.Rows
		}
		known := (t.RowsBefore != nil || t.Change == diff.Added) && (t.Rows != nil || t.Change == diff.Removed)
		if known && now != before {
			difference = fmt.Sprintf("%s%s", sign(now-before), words.Count(max(now-before, before-now)))
		}
		name := t.Name
		if t.PartitionsBefore != t.Partitions {
			name += fmt.Sprintf(" (partitions %d → %d)", t.PartitionsBefore, t.Partitions)
		}
		rows = append(rows, []string{string(t.Change), name, rowCount(t.RowsBefore), rowCount(t.Rows), difference})
	}
	cmd.section("tables", []string{"CHANGE", "TABLE", "BEFORE", "NOW", "DIFFERENCE"}, rows, 2, 3, 4)
}

// rowCount is a dash where there is no such table, or where it was not counted.
func rowCount(n *int64) string {
	if n == nil {
		return "-"
	}
	return words.Count(*n)
}

func sign(n int64) string {
	if n < 0 {
		return "-"
	}
	return "+"
}

func (cmd *diffCommand) printColumns(tables []diff.Table) {
	var rows [][]string
	for _, t := range tables {
		for _, c := range t.Columns {
			typ := c.Type
			switch c.Change {
			case diff.Removed:
				typ = c.TypeBefore
			case diff.Changed:
				typ = c.TypeBefore + " → " + c.Type
			case diff.Added:
			}
			rows = append(rows, []string{string(c.Change), t.Name + "." + sqltext.Readable(c.Name), typ})
		}
	}
	cmd.section("columns", []string{"CHANGE", "COLUMN", "TYPE"}, rows)
}

func (cmd *diffCommand) printDefinitions(definitions []diff.Definition) {
	rows := make([][]string, 0, len(definitions))
	for _, d := range definitions {
		what := d.Identity
		if d.Detail != "" {
			what += " " + d.Detail
		}
		rows = append(rows, []string{string(d.Change), d.Kind, what})
	}
	cmd.section("definitions", []string{"CHANGE", "KIND", "OBJECT"}, rows)
}

// section prints a table under its title, if it has rows.
func (cmd *diffCommand) section(title string, headers []string, rows [][]string, right ...int) {
	if len(rows) == 0 {
		return
	}
	more := 0
	if !cmd.flags.all && len(rows) > mostChanges {
		more, rows = len(rows)-mostChanges, rows[:mostChanges]
	}
	width := narrow
	if columns := cmd.stdoutWidth(); cmd.stdoutTTY && columns > 0 {
		width = columns
	}
	p := cmd.paint(cmd.stdoutTTY)
	cmd.printf("\n%s\n%s", p.bold(title), terminal.Table(headers, rows, terminal.TableOptions{
		Width: width, Indent: 2, Right: right, Shrink: []int{len(headers) - 1 - len(right), 2}, Color: p.on,
	}))
	if more > 0 {
		cmd.printf("  and %s more: --all\n", words.Count(int64(more)))
	}
}

// compared names what was compared of every table.
func compared(c diff.Changes) string {
	what := []string{"tables"}
	if c.DefinitionsCompared {
		what = append(what, "columns")
	}
	if c.RowsCompared {
		what = append(what, "numbers of rows")
	}
	if c.DefinitionsCompared {
		what = append(what, "definitions")
	}
	if last := len(what) - 1; last > 0 {
		return strings.Join(what[:last], ", ") + " and " + what[last]
	}
	return what[0]
}

// printNot says what the result does not say.
func (cmd *diffCommand) printNot(r diffResult) {
	if r.None() {
		cmd.printf("\n%s\n", cmd.paint(cmd.stdoutTTY).good("no changes in "+compared(r.Changes)))
	}
	var not []string
	for _, m := range []moment{r.From, r.To} {
		if m.unopened {
			not = append(not, "who wrote the manifest of backup "+m.Backup+": this host has no key that opens it")
		}
	}
	not = append(not, r.NotCompared...)
	if len(not) == 0 {
		return
	}
	cmd.printf("\n%s\n", cmd.paint(cmd.stdoutTTY).warn("not checked"))
	for _, line := range not {
		cmd.printf("  %s\n", strings.Join(terminal.Wrap(words.Clean(line), narrow-4), "\n    "))
	}
}
