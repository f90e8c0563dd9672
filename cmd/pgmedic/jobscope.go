package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/notify"
)

// jobScope is how much of a job a run was asked for. It is part of the fingerprints of what
// is reported, so that a run ends nothing but what it has done itself.
type jobScope struct {
	// databases are those that the command line names.
	databases []string
	// part says which part of a database or a backup was asked for; empty is all of it.
	part string
	// asked says the same of the run as such.
	asked string
	// one is true of a run that does less than what its failures are about, and so ends
	// none of them.
	one bool
}

// jobScopeOf reads it from the command line and the settings that narrow a job.
func jobScopeOf(cmd *cobra.Command, name string, b config.Backup) jobScope {
	var s jobScope
	given := func(names ...string) string {
		var all []string
		for _, name := range names {
			if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
				all = append(all, name+"="+f.Value.String())
			}
		}
		return strings.Join(all, " ")
	}
	args := cmd.Flags().Args()
	switch name {
	case "backup":
		s.databases = slices.Sorted(slices.Values(args))
		if narrowed := slices.Concat(b.Tables, b.Schemas, b.ExcludeTables, b.ExcludeSchemas, b.ExcludeTableData); len(narrowed) > 0 {
			s.part = fmt.Sprintf("%q %q %q %q %q", b.Tables, b.Schemas, b.ExcludeTables, b.ExcludeSchemas, b.ExcludeTableData)
		}
		s.asked = s.part
		if b.Method == string(pgmedic.MethodPhysical) {
			s.asked = b.Method // which ends nothing of a backup of a database
		}
	case "report", checkJob:
		s.databases = args
	case "verify":
		s.part = given("sample")
		s.asked = fmt.Sprintf("%q %s", args, given("all", "sample"))
	case "drill":
		s.part = given("no-amcheck")
		s.asked = fmt.Sprintf("%q %s", args, given("sample", "no-amcheck"))
	case "copy":
		s.asked, s.one = given("to"), given("all") == ""
	case walJob:
		s.asked = given("slot")
	case "prune":
		s.asked = given("only", "database", "rescued")
	}
	return s
}

// database is the one that the job works on, or empty where that is none or several.
func (n *notifier) database() string {
	switch {
	case len(n.scope.databases) == 1:
		return n.scope.databases[0]
	case len(n.scope.databases) > 1, n.name == "prune", n.name == "copy", n.name == walJob, n.name == "backup" && (n.cfg.Backup.AllDatabases || n.cfg.Backup.Method == string(pgmedic.MethodPhysical)):
		return ""
	}
	t, err := servers{n.job}.target()
	if err != nil {
		return ""
	}
	return databaseName(t)
}

// fingerprint is that of the outcome: of the run as such, of a database, or of a backup
// that is damaged, which only that backup's own verification or drill ends.
func (n *notifier) fingerprint(o outcome) string {
	parts := []string{"job", n.name, n.target("").Server, n.place(), o.database}
	switch {
	case o.whole:
		parts = append(parts, "whole", n.scope.asked)
		if len(n.scope.databases) > 1 {
			parts = append(parts, n.scope.databases...)
		}
	case o.backup != "" && (n.name == "verify" || n.name == "drill") && pgmedic.KindOf(o.err) == pgmedic.KindIntegrity:
		return n.damaged(o)
	default:
		parts = append(parts, "database", n.scope.part)
	}
	if o.err == nil && n.scope.one {
		parts = append(parts, "one")
	}
	return notify.Fingerprint(parts...)
}

// damaged is the fingerprint of a backup that is.
func (n *notifier) damaged(o outcome) string {
	return notify.Fingerprint("job", n.name, n.target("").Server, n.place(), o.database, "backup", o.backup)
}

// place is the store that the job works on.
func (n *notifier) place() string {
	if n.name == "report" || n.name == checkJob {
		return ""
	}
	return fmt.Sprintf("%+v", n.cfg.Backup.Place())
}

// ends are events that end what else a success shows to be over: that the backup which was
// read in whole is damaged, and that no backup of its database could begin.
func (n *notifier) ends(o outcome) []notify.Event {
	if o.err != nil || o.whole {
		return nil
	}
	said := jobWords(n.name)
	e := notify.Event{
		At: n.now(), Target: n.target(o.database), State: notify.StateInfo, Severity: pgmedic.SeverityInfo,
		Name: n.name + "." + said.good, Summary: n.goodSentence(said, o), Once: true,
	}
	switch {
	case n.name == "backup":
		e.Fingerprint = notify.Fingerprint("job", n.name, e.Target.Server, n.place(), o.database, "whole", n.scope.asked)
	case o.backup != "" && n.scope.part == "" && (n.name == "verify" || n.name == "drill"):
		e.Fingerprint = n.damaged(o)
	default:
		return nil
	}
	return []notify.Event{e}
}

// goodSentence says what succeeded, and no more than that.
func (n *notifier) goodSentence(said wordsOf, o outcome) string {
	switch {
	case o.whole || o.backup == "":
	case n.name == "verify" && n.scope.part != "":
		return "a sample of backup " + o.backup + " is intact"
	case n.name == "verify":
		return "backup " + o.backup + " is intact"
	case n.name == "drill":
		return "the drill proved backup " + o.backup
	}
	if n.name == "backup" && n.scope.part != "" {
		return "the backup of a part of the database succeeded"
	}
	return said.goodSentence
}
