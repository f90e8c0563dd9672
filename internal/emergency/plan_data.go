package emergency

import (
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/words"
)

const stopDamage = "A stopped application loses nothing. Note the time and each command with what it said. Delete nothing."

// source is where the state before the accident comes from: the arguments of `pgmedic
// restore`, and a sentence about it.
type source struct {
	args []string
	why  string
	// moment is true where it is one of the whole cluster.
	moment bool
	id     string
	// notInPlace is why no single table can be made again from it; empty where nothing is known.
	notInPlace string
}

// from chooses where the state before the accident comes from: a moment, if the stored WAL
// reaches it, else the newest backup from before it.
func (p *planner) from() source {
	before := p.Before()
	reach := p.WAL.Reach(before)
	at := source{args: []string{"--to-time", moment(before)}, moment: true}
	switch reach {
	case ReachYes:
		at.why = "The stored WAL reaches " + moment(before) + ", the second before: nothing that was right is lost." + p.room()
		return at
	case ReachPerhaps:
		at.why = "Whether the stored WAL reaches " + moment(before) + ", the second before, is not known yet: this says. If it does not, wait a minute and try again."
		if b, ok := p.backup(); ok {
			at.why += " Else use backup " + b.ID + " in place of --to-time: changes since " + moment(b.At) + " are not in it."
		}
		at.why += p.room()
		return at
	case ReachNo:
	}
	why := ""
	switch {
	case p.WAL != nil && p.When.IsZero():
		why = " With the moment of the accident (--when) it can be the second before it, from the stored WAL."
	case p.WAL != nil:
		why = " The stored WAL does not reach " + moment(p.Before()) + "."
	}
	b, ok := p.backup()
	if !ok {
		p.findBackup()
		return source{args: []string{wordBackup}, why: "Changes since the backup that you choose are not in it." + why}
	}
	if p.When.IsZero() {
		why += " If it is from after the accident, name an older one from `pgmedic list`."
	}
	return source{args: []string{b.ID}, id: b.ID, notInPlace: b.NotInPlace, why: p.backupWords(b) + " Changes since then are not in it." + why}
}

// tables are the arguments that bring the tables back from a source. The database is named,
// because the one of the configuration may be another.
func (p *planner) tables(s source, more ...string) []string {
	args := append([]string{"restore"}, s.args...)
	args = append(args, "--table="+p.table())
	if p.Database != "" {
		args = append(args, "--database="+p.Database)
	}
	return append(args, more...)
}

// beside brings the table back beside the living one, in a new schema.
func (p *planner) beside(s source) {
	if s.moment {
		p.pgmedic("Check what will be done", s.why+" This changes nothing.", usesConnection|usesStore, p.tables(s, "--dry-run")...)
		s.why = ""
	}
	p.pgmedic("Bring the table back beside the living one", strings.TrimSpace(s.why+" It goes into a new schema, and nothing that is there changes. It prints the name of the schema, and the SQL that compares the two."),
		usesConnection|usesStore, p.tables(s)...)
}

// schema is the one that the restore of tables makes, or the word for it.
func (s source) schema() string {
	if s.id != "" {
		return "pgmedic_rescue_" + strings.ToLower(strings.ReplaceAll(s.id, "-", "_"))
	}
	return wordSchema
}

const asksFirst = "It shows the plan, and changes nothing before you type the name of the database. Then it does all of it in one transaction, or nothing."

// inPlace puts the table back where it was: what a dry run says first, then the change.
func (p *planner) inPlace(s source, title, check, why string, more ...string) {
	args := p.tables(s, append([]string{"--in-place"}, more...)...)
	if s.moment {
		check = "What is done with the table is known after the recovery, before the question."
	}
	p.pgmedic("Check what will be done", s.why+" "+check+" This changes nothing.", usesConnection|usesStore, append(slices.Clone(args), "--dry-run")...)
	p.pgmedic(title, asksFirst+" "+why, usesConnection|usesStore|changes, args...)
}

// count counts the rows of the table.
func (p *planner) count(why string) {
	p.shell("Count the rows", why, p.psql(p.database())+" -Atc "+Quote("SELECT count(*) FROM "+p.tableSQL()))
}

// wholeDatabase brings a database back that is gone as a whole, with all of its tables.
func (p *planner) wholeDatabase(s source) {
	args := append([]string{"restore"}, s.args...)
	args = append(args, "--into="+p.database())
	if s.moment {
		args = append(args, "--database="+p.database())
	}
	p.pgmedic("Check what will be done", "The server has no database of this name: all of it comes back. "+s.why+" This changes nothing.", usesConnection|usesStore, append(slices.Clone(args), "--dry-run")...)
	p.pgmedic("Restore the database", "It is compared with what was recorded. Have the application stay stopped until that has ended.", usesConnection|usesStore, args...)
	p.pgmedic("Take a backup of it", "", usesConnection|usesStore|changes, "backup")
}

func rowsDeleted(p *planner) {
	p.say("Stop what deletes rows", stopDamage)
	s := p.from()
	if p.Server.DatabaseGone {
		p.wholeDatabase(s)
		return
	}
	why := "It adds the rows that the table lacks, by its primary key, and changes no row that is there."
	if !s.moment {
		why += " Rows that were deleted on purpose since the backup come back, too: to see all of them first, leave out --in-place --missing-rows. Then the table comes beside the living one, with the SQL that compares them."
	}
	p.inPlace(s, "Put the missing rows back", "The table must be one that `is there`.",
		why+" If it refuses, as it does without a primary key, nothing has changed: `pgmedic help emergency rows-deleted` has the way by hand. Rows of tables that it refers to come first.", "--missing-rows")
	p.count("As many as were there, and those that were written since.")
	p.dropRescue(s.schema())
}

func wrongUpdate(p *planner) {
	p.say("Stop what changes rows", stopDamage)
	s := p.from()
	if p.Server.DatabaseGone {
		p.wholeDatabase(s)
		return
	}
	p.beside(s)
	schema, table := s.schema(), p.tableSQL()
	old := `"` + schema + `".` + wordName
	if parts, ok := tableParts(p.Table); ok {
		old = `"` + schema + `".` + parts[len(parts)-1]
	}
	if parts, _ := tableParts(p.Table); len(parts) < 2 {
		table = wordTable // which of several tables a name alone means depends on the session
	}
	p.shell("Compare", "Paste the SELECT that the restore printed below `rows of the backup that have changed since`: it shows the rows that are different. Rows that were changed on purpose are among them.", p.psql(p.database()))
	again := ""
	if s.moment {
		again = " It recovers the cluster once more, and makes a schema of its own."
	}
	p.pgmedic("If all differences are wrong: put the whole table back", "Only then: rows that were added since are removed, and those that were changed since get their old values. "+asksFirst+" The plan says how many rows that are, and the rows that the table had are kept in the schema."+again,
		usesConnection|usesStore|changes, p.tables(s, "--in-place")...)
	p.shell("If some are right: mend the wrong rows alone", "Instead of the step before. Have somebody who knows the table check the statement. If it says as many rows as the wrong change had, type COMMIT; else ROLLBACK;.",
		p.psql(p.database())+" <<'SQL'\nBEGIN;\nUPDATE "+table+" AS c SET "+wordColumn+" = b."+wordColumn+" FROM "+old+" AS b\nWHERE b."+wordKey+" = c."+wordKey+
			" AND b."+wordColumn+" IS DISTINCT FROM c."+wordColumn+";\nROLLBACK; -- write COMMIT instead once the number of rows is right\nSQL")
	p.dropRescue(schema)
}

// dropRescue takes the schema of a rescue away.
func (p *planner) dropRescue(schema string) {
	p.sql("Take the schema away", "Only when all is right: it holds the only copy beside the backup, and the rows that were replaced. Compare the name with the one that the restore printed.", p.database(), `DROP SCHEMA "`+schema+`" CASCADE`)
}

func tableDropped(p *planner) {
	p.say("Stop what drops tables", stopDamage+" Don't make an empty table by hand.")
	s := p.from()
	switch {
	case p.Server.DatabaseGone:
		p.wholeDatabase(s)
		return
	case s.notInPlace != "":
		p.wholeCopy(s)
		return
	}
	check := "The table must be one that `is not there`: one that is there would get the rows of the backup in place of its own."
	var more []string
	if parts, ok := tableParts(p.Table); p.Table != "" && (!ok || len(parts) < 2) {
		check, more = "The lost table must be one that `is not there`. Others of that name, which are there, keep their rows, and get those that they lack: to leave them alone, name the lost one with its schema.", []string{"--missing-rows"}
	}
	p.inPlace(s, "Put the table back where it was", check, "It comes with its partitions, rows, indexes, keys, rights and counters, and with the views and foreign keys that a DROP with CASCADE took along. What can't be put back is listed, and asked for. "+
		"If it refuses, nothing has changed: `pgmedic help emergency table-dropped` has the way by a copy of the whole database.", more...)
	p.count("The plan said how many there must be.")
	p.dropRescue(s.schema())
}

// wholeCopy brings the whole database back beside the living one, and moves the table over.
func (p *planner) wholeCopy(s source) {
	into := p.copyName()
	args := append([]string{"restore"}, s.args...)
	args = append(args, "--into="+into)
	p.pgmedic("Check what will be done", s.why+" This changes nothing.", usesConnection|usesStore, append(slices.Clone(args), "--dry-run")...)
	size := ""
	if p.Server.DatabaseBytes > 0 {
		size = " The server needs about " + words.Bytes(p.Server.DatabaseBytes) + " for it."
	}
	p.pgmedic("Restore a copy beside the live database", "The live database is only read. The whole database comes back, because the backup "+s.notInPlace+", and `restore --in-place` makes no single table from such a one."+size,
		usesConnection|usesStore, args...)
	p.shell("Move the table over", "With its partitions, rows, indexes, keys, rights and counters, all or nothing. If it says `violates foreign key constraint`, nothing was changed: bring back the rows that it refers to first.", p.move(into))
	p.shell("Count the rows", "Both numbers must be equal.",
		p.psql(into)+" -Atc "+Quote("SELECT count(*) FROM "+p.tableSQL())+"\n"+p.psql(p.database())+" -Atc "+Quote("SELECT count(*) FROM "+p.tableSQL()))
	p.shell("See what else went with it", "A DROP with CASCADE takes views and foreign keys of other tables along. Lines with `>` are in the copy and not in the live database.",
		"diff <(pg_dump --schema-only -d "+Quote(p.conninfo(p.database()))+") <(pg_dump --schema-only -d "+Quote(p.conninfo(into))+") | grep '^>'")
	p.sql("Take the copy away", "Only when all is right.", p.maintenance(), "DROP DATABASE "+quoteName(into))
}

// move moves a table with all that is its own from a copy into the live database. What
// pg_dump writes is read only once it is whole.
func (p *planner) move(from string) string {
	return `(
set -eu
umask 077
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
` + p.psql(from) + ` -At -v table=` + Quote(p.tableSQL()) + ` > "$dir/parts" <<'SQL'
WITH RECURSIVE t (oid) AS (SELECT :'table'::regclass::oid UNION SELECT inhrelid FROM pg_inherits JOIN t ON inhparent = t.oid)
SELECT format('--table=%I.%I', nspname, relname) FROM t JOIN pg_class AS c USING (oid) JOIN pg_namespace AS n ON n.oid = relnamespace
SQL
xargs -d '\n' pg_dump -d ` + Quote(p.conninfo(from)) + ` < "$dir/parts" > "$dir/table.sql"
` + p.psql(p.database()) + ` --single-transaction -f "$dir/table.sql"
)`
}
