package inplace

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/restore"
)

// definitions are the entries of a backup that belong to tables, or depend on them.
type definitions struct {
	entries []*entry
	// tables are the numbers of all entries that are tables.
	tables map[string]bool
}

// entry is one of them, in the archive's order.
type entry struct {
	dumpsql.Entry
	dependsOn  []string
	statements []string
	// table is the one that the entry makes, if it is one that is to be made.
	table *table
	// part is whether it is a partition of one.
	part bool
	// attaches is whether it attaches one that is made by itself to a living table.
	attaches bool
}

// setting matches what pg_dump writes between entries about where and how they are made.
var setting = regexp.MustCompile(`(?s)\A(?:\s*--[^\n]*\n)*\s*SET (?:default_tablespace|default_table_access_method|standard_conforming_strings|xmloption) = [^;]*;\s*\z`)

// ofSession matches the beginning of other statements about the session, which has settings
// of its own.
var ofSession = regexp.MustCompile(`\A(?:SET |SELECT pg_catalog\.set_config\()`)

// comments match the lines above a statement.
var comments = regexp.MustCompile(`\A(?:\s*--[^\n]*\n)*\s*`)

// readDefinitions reads what the tables that are not there were made of.
func (w *work) readDefinitions(ctx context.Context) error {
	if w.Backup.Method != pgmedic.MethodParallel {
		return pgmedic.Errorf(pgmedic.KindUsage, "restore the whole backup beside it, --into NAME, and make the table from there; --in-place alone puts rows of such a backup back",
			"%s is not there, and backup %s was taken with method %s, from which single definitions can't be read", w.absentNames(), w.Backup.ID, w.Backup.Method)
	}
	if w.Backup.Database.Encoding != "UTF8" {
		return pgmedic.Errorf(pgmedic.KindUsage, "restore the whole backup beside it, --into NAME, and make the table from there",
			"%s is not there, and definitions in encoding %s can't be put back one by one", w.absentNames(), w.Backup.Database.Encoding)
	}
	tool, err := w.Tools.Find(ctx, "pg_restore", pgtool.AtLeast(w.Backup))
	if err != nil {
		return err
	}
	dir, remove, err := restore.Staging()
	if err != nil {
		return err
	}
	defer remove()
	archive, list := filepath.Join(dir, "schema.dump"), filepath.Join(dir, "wanted.list")
	if err := w.Source().StageDefinitions(ctx, archive); err != nil {
		return err
	}
	all, err := pgtool.ListEntries(ctx, tool, archive)
	if err != nil {
		return err
	}
	wanted := w.dependents(all)
	if err := pgtool.WriteEntryList(ctx, tool, archive, list, wanted); err != nil {
		return err
	}
	script, err := pgtool.StartEntries(ctx, tool, archive, list, dumpsql.Without{})
	if err != nil {
		return err
	}
	w.definitions = &definitions{tables: map[string]bool{}}
	byID := map[string]*entry{}
	for _, a := range all {
		w.definitions.tables[a.ID] = strings.HasPrefix(a.Text, "TABLE ") && !strings.HasPrefix(a.Text, "TABLE DATA ") && !strings.HasPrefix(a.Text, "TABLE ATTACH ")
		byID[a.ID] = &entry{dependsOn: a.DependsOn}
	}
	err = dumpsql.EachStatement(dumpsql.NewScript(script), func(st *dumpsql.Statement) error {
		w.definitions.add(st, byID)
		return nil
	})
	if err := errors.Join(err, script.Close()); err != nil {
		return err
	}
	return w.definitions.claim(w.tables)
}

// absentNames are the tables that are not there.
func (w *work) absentNames() string {
	var names []string
	for _, t := range w.tables {
		if t.plan.Action == ActionMake {
			names = append(names, t.String())
		}
	}
	return strings.Join(names, ", ")
}

// oneLine is a name as an archive's list has it.
func oneLine(name string) string {
	return strings.NewReplacer("\n", " ", "\r", " ").Replace(name)
}

// dependents are the entries that may be one of the tables, and all that depend on them,
// however far.
func (w *work) dependents(all []pgtool.ArchiveEntry) map[string]bool {
	var begins []string
	for _, t := range w.tables {
		if t.plan.Action == ActionMake {
			begins = append(begins, "TABLE "+oneLine(t.Schema)+" "+oneLine(t.Name)+" ")
		}
	}
	wanted := map[string]bool{}
	for _, a := range all {
		switch {
		case strings.HasPrefix(a.Text, "TABLE DATA "):
		case slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(a.Text, b) }),
			slices.ContainsFunc(a.DependsOn, func(id string) bool { return wanted[id] }):
			wanted[a.ID] = true
		}
	}
	return wanted
}

// add adds a statement to the entry that it belongs to.
func (d *definitions) add(st *dumpsql.Statement, byID map[string]*entry) {
	e := byID[st.Entry.ID]
	switch {
	case setting.MatchString(st.SQL):
		d.entries = append(d.entries, &entry{statements: []string{st.SQL}})
	case e == nil || st.Entry.ID == "" || st.Table != "" || st.Entry.Type == "TABLE DATA":
	case ofSession.MatchString(comments.ReplaceAllString(st.SQL, "")):
	default:
		if len(e.statements) == 0 {
			e.Entry = st.Entry
			d.entries = append(d.entries, e)
		}
		e.statements = append(e.statements, st.SQL)
	}
}

// claim finds the entries of the tables that are to be made, and of their partitions.
func (d *definitions) claim(tables []*table) error {
	for _, t := range tables {
		if t.plan.Action != ActionMake {
			continue
		}
		found := 0
		for _, e := range d.entries {
			if e.Type == "TABLE" && e.Schema == oneLine(t.Schema) && e.Name == oneLine(t.Name) {
				e.table = t
				found++
			}
		}
		if found != 1 {
			return pgmedic.Errorf(pgmedic.KindFailed, "restore the whole backup beside it, --into NAME, and make the table from there",
				"%s is not there, and the backup has %d definitions of that name", t, found)
		}
	}
	for grown := true; grown; {
		grown = false
		for _, attach := range d.entries {
			if attach.Type == "TABLE ATTACH" {
				grown = d.follow(attach) || grown
			}
		}
	}
	return nil
}

// follow finds what an entry attaches: a partition of a table that is to be made is made
// with it, and one that is made by itself is attached once it is whole. It reports whether
// that was not known before.
func (d *definitions) follow(attach *entry) (found bool) {
	var parent, part *entry
	for _, e := range d.entries {
		switch {
		case e.Type != "TABLE" || !slices.Contains(attach.dependsOn, e.ID):
		case e.Schema == attach.Schema && e.Name == attach.Name:
			part = e
		default:
			parent = e
		}
	}
	if part == nil {
		return false
	}
	whole := parent != nil && (parent.table != nil || parent.part)
	switch {
	case whole && part.table == nil && !part.part:
		part.part = true
		return true
	case !whole && part.table != nil && !attach.attaches:
		attach.attaches = true
		return true
	}
	return false
}
