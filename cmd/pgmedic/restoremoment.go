package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/extract"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/replay"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// momentRescueCommand brings tables or a database of a moment into the living server, out
// of a base backup and WAL.
type momentRescueCommand struct {
	restoreCommand
	moment clusterFlags
}

// rescuesMoment reports whether the flags ask for a moment, and for what a restore of a
// database makes.
func rescuesMoment(flags *pflag.FlagSet) bool {
	asked := func(names ...string) bool { return slices.ContainsFunc(names, flags.Changed) }
	return !flags.Changed("target-dir") && asked(targetFlagNames()...) && asked("table", "into", "database", "swap")
}

// checkMomentRescue refuses flags that mean nothing for tables or a database of a moment.
func checkMomentRescue(flags *pflag.FlagSet) error {
	if flags.Changed("swap") {
		return pgmedic.Errorf(pgmedic.KindUsage, "restore it beside the live database with --into NAME, compare the two, and rename both with ALTER DATABASE", "--swap does not take a database of a moment")
	}
	for _, name := range []string{"skip-safety-backup", "standbys-handled", "accept-shrunk", "resume", "compare", "file"} {
		if flags.Changed(name) {
			return pgmedic.Errorf(pgmedic.KindUsage, "bring it back beside the live one: --table, or --into NAME", "--%s is not for tables or a database of a moment", name)
		}
	}
	for _, name := range []string{"table", "into", "database"} {
		v := flags.Lookup(name).Value
		if flags.Changed(name) && (v.String() == "" || v.Type() != "string" && slices.Contains(v.(pflag.SliceValue).GetSlice(), "")) {
			return pgmedic.Errorf(pgmedic.KindUsage, "give it a value, or leave it out", "--%s is empty", name)
		}
	}
	if !flags.Changed("table") && !flags.Changed("into") {
		return pgmedic.Errorf(pgmedic.KindUsage, "--into NAME makes a new database of it, --table brings single tables of it back", "say where database %s of the moment is to go", flags.Lookup("database").Value)
	}
	return nil
}

// momentRescue is a rescue that is planned.
type momentRescue struct {
	*plannedRecovery
	catalog *catalog.Catalog
	source  physical.Source
	target  postgres.Target
	// database is the one of the cluster, and moment what the moment is called.
	database, moment string
	// needed is what the cluster and its WAL take, and taken the most that what is taken out
	// of it does: the size of its database in the base backup, or 0 where that is not known.
	needed, taken, free int64
}

func (cmd *momentRescueCommand) run(ctx context.Context) error {
	asked := cmd.restoreCommand
	asked.flags.database = "" // of which check thinks as of a live one
	asked.flags.skipDiskCheck = false
	if err := asked.check([]string{catalog.Latest}); err != nil {
		return err
	}
	target, err := cmd.moment.target(cmd.args)
	if err == nil {
		err = checkWALSigned(cmd.cfg)
	}
	if err != nil {
		return err
	}
	m := &momentRescue{}
	if m.target, m.database, err = cmd.living(); err != nil {
		return err
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	if m.plannedRecovery, err = (recoveryPlanner{job: cmd.job, keys: cmd.keys, server: cmd.flags.fromServer}).plan(ctx, c, target, nil); err != nil {
		return err
	}
	if err := checkEnd(m.stored, m.plan.WAL, target); err != nil {
		return err
	}
	b := m.entry.Backup
	m.catalog, m.moment = c, m.plan.Target
	cmd.trail.aboutBackup(b)
	cmd.trail.about(act{
		params: map[string]string{"into": cmd.flags.into, "globals": cmd.flags.globals, "target": m.plan.Target, "of_database": m.database},
		lists:  map[string][]string{"tables": cmd.flags.tables},
	})
	source, merged, err := cmd.keys.chain(ctx, c, physical.Source{Store: c.Store(), Backup: b, Key: m.key})
	if err != nil {
		return err
	}
	defer func() { _ = merged.Close() }() // a temporary file
	m.source = source
	if err := cmd.ready(ctx, m); err != nil {
		return err
	}
	cmd.warnPlan(m.plan)
	if cmd.flags.dryRun {
		return cmd.foreseeMoment(m)
	}
	if !cmd.global.json && !cmd.global.quiet {
		cmd.printMomentPlan(m)
	}
	release, err := cmd.backups.holdInUse(ctx, c, m.entry, "restore")
	if err != nil {
		return err
	}
	defer release()
	held := cmd.leaseRecovery(ctx, c, m.plannedRecovery, "restore")
	defer func() { held.Release(ctx) }()
	return cmd.bringBack(ctx, m)
}

// living is the server that the copy goes to, and the database that is taken.
func (cmd *momentRescueCommand) living() (t postgres.Target, database string, err error) {
	if t, err = cmd.servers.target(); err != nil {
		return t, "", err
	}
	if database = cmp.Or(cmd.flags.database, databaseName(t)); database == "" {
		return t, "", pgmedic.Errorf(pgmedic.KindUsage, "name it: --database NAME", "a cluster has several databases, and none is named")
	}
	if len(cmd.flags.tables) > 0 {
		t = t.WithDatabase(database)
	}
	return t, database, nil
}

// ready looks for all that would stop the rescue halfway, before a byte is fetched.
func (cmd *momentRescueCommand) ready(ctx context.Context, m *momentRescue) error {
	major := m.entry.Backup.Server.Major()
	if _, err := scratch.Installed(ctx, major, scratch.FindOptions{SearchDirs: cmd.cfg.Postgres.BinDirs, Logger: cmd.log}); err != nil {
		return err
	}
	for _, name := range []string{"pg_dump", "pg_restore"} {
		if _, err := cmd.tools().Find(ctx, name, major); err != nil {
			return err
		}
	}
	dir, free, err := cmd.scratchRoom(ctx)
	if err != nil {
		return err
	}
	m.needed, m.free = replay.NeededBytes(m.source, m.plan), free
	if m.free < m.needed {
		return pgmedic.Errorf(pgmedic.KindFailed, "free space there, or name another folder with --scratch-dir",
			"the cluster and its WAL need %s, and %s are free in %s", words.Bytes(m.needed), words.Bytes(m.free), dir)
	}
	if m.taken, err = extract.DatabaseBytes(ctx, m.source, m.database); err != nil {
		return err
	}
	if err := cmd.checkTaken(m, dir); err != nil {
		return err
	}
	return cmd.readyLiving(ctx, m)
}

// checkTaken refuses a folder that has room for the cluster, and not for the database that is taken
// out of it. Of single tables the size is known once the cluster is recovered: it is checked again
// then, and here is a warning.
func (cmd *momentRescueCommand) checkTaken(m *momentRescue, dir string) error {
	switch {
	case cmd.flags.skipDiskCheck:
		return nil
	case m.taken == 0:
		cmd.log.Warn("the backup does not say how large the database is: whether there is room for what is taken out is checked once the cluster is recovered", "database", m.database)
		return nil
	case m.free-m.needed >= m.taken:
		return nil
	case len(cmd.flags.tables) > 0:
		cmd.log.Warn("there may be no room for the tables that are taken out, which is checked once the cluster is recovered: free space, or name another folder with --scratch-dir",
			"folder", dir, "free_bytes", m.free, "needed_bytes", m.needed, "database_bytes", m.taken)
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "free space there, or name another folder with --scratch-dir; what is taken out is compressed and can be much smaller: --skip-disk-check tries it",
		"the cluster and its WAL need %s, database %s that is taken out of it up to %s more, and %s are free in %s",
		words.Bytes(m.needed), sqltext.QuoteIdent(m.database), words.Bytes(m.taken), words.Bytes(m.free), dir)
}

// readyLiving refuses what the restore into the living server would refuse.
func (cmd *momentRescueCommand) readyLiving(ctx context.Context, m *momentRescue) error {
	into := cmd.flags.into
	var connected postgres.Target
	if connected = m.target; into != "" {
		connected = m.target.WithDatabase(cmp.Or(cmd.cfg.Database.MaintenanceDatabase, postgres.DefaultMaintenance))
	}
	conn, err := postgres.Connect(ctx, connected)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err == nil {
		err = databases.RefuseStandby(server)
	}
	if err != nil {
		return err
	}
	if into == "" {
		of := *m.entry.Backup
		of.Database.Name = m.database
		o := restore.Options{Backup: &of}
		return o.RefuseOther(server, m.database, cmd.flags.fromServer)
	}
	exists, err := databases.Exists(ctx, conn, into)
	if err == nil && exists {
		err = pgmedic.Errorf(pgmedic.KindConflict, "choose another name with --into, or drop it first", "database %q exists already", into)
	}
	return err
}

// momentPreview is what --dry-run prints as JSON.
type momentPreview struct {
	Backup      string         `json:"backup"`
	Plan        *recovery.Plan `json:"plan"`
	Database    string         `json:"database"`
	Tables      []string       `json:"tables,omitempty"`
	InPlace     bool           `json:"in_place,omitempty"`
	Into        string         `json:"into,omitempty"`
	NeededBytes int64          `json:"needed_bytes"`
	// TakenBytes is the size of the database in the base backup: what is taken out of the
	// recovered cluster is smaller. 0 is not known.
	TakenBytes int64 `json:"taken_bytes"`
	FreeBytes  int64 `json:"free_bytes"`
}

// roomWords says which room a rescue needs, of which taken is 0 where it is not known.
func roomWords(needed, taken, free int64) string {
	more := "up to " + words.Bytes(taken) + " more for what is taken out"
	if taken == 0 {
		more = "more for what is taken out, of which the size is not known yet"
	}
	return fmt.Sprintf("needs %s, and %s; %s are free", words.Bytes(needed), more, words.Bytes(free))
}

// foreseeMoment ends a --dry-run.
func (cmd *momentRescueCommand) foreseeMoment(m *momentRescue) error {
	switch {
	case cmd.global.json:
		return cmd.printJSON(momentPreview{
			Backup: m.entry.Backup.ID, Plan: m.plan, Database: m.database, Tables: cmd.flags.tables, InPlace: cmd.flags.inPlace, Into: cmd.flags.into, NeededBytes: m.needed, TakenBytes: m.taken, FreeBytes: m.free,
		})
	case cmd.global.quiet:
		cmd.printf("%s\n", m.entry.Backup.ID)
		return nil
	}
	cmd.printMomentPlan(m)
	cmd.wrapf("%s; whether that is there at the moment is not known before the recovery\n", cmd.paint(cmd.stdoutTTY).bold("nothing was made"))
	return nil
}

// printMomentPlan prints what will be done.
func (cmd *momentRescueCommand) printMomentPlan(m *momentRescue) {
	what := "database " + words.Clean(m.database)
	where := "database " + words.Clean(cmd.flags.into)
	if len(cmd.flags.tables) > 0 {
		what, where = "tables "+words.Clean(strings.Join(cmd.flags.tables, ", "))+" of "+what, "a new schema of the live database "+words.Clean(m.database)
		if cmd.flags.inPlace {
			where += ", and from there to where they were"
		}
	}
	cmd.wrapf("%s, as of %s, into %s\n", what, words.Clean(m.moment), where)
	next := ""
	if m.plan.WAL.Next != nil {
		next = endedWords(m.plan.WAL.Next)
	}
	cmd.fields(
		"base backup", m.entry.Backup.ID, "recovers to", reachedWords(m.plan), "left out", next, "timeline", fmt.Sprint(m.plan.WAL.Timeline),
		"room", roomWords(m.needed, m.taken, m.free),
	)
}

// bringBack recovers the cluster, and brings what is wanted into the living server.
func (cmd *momentRescueCommand) bringBack(ctx context.Context, m *momentRescue) (err error) {
	listen, stop := cmd.progress()
	defer stop()
	began := cmd.now()
	live := cmp.Or(cmd.flags.into, m.database)
	cmd.begin(live)
	taken, err := extract.Take(ctx, extract.Options{
		Replay: replay.Options{
			Plan: m.plan, WAL: m.wal, Source: m.source, ServerDirs: cmd.cfg.Postgres.BinDirs, ScratchDir: cmd.cfg.Drill.ScratchDir,
			PreloadLibraries: cmd.cfg.Drill.PreloadLibraries,
		},
		Database: m.database, Tables: cmd.flags.tables, Definitions: cmd.flags.inPlace, SkipRoom: cmd.flags.skipDiskCheck, Moment: m.moment, Tools: cmd.tools(), Jobs: cmd.cfg.Backup.Jobs,
		Host: hostName(), Version: cmd.version, Progress: listen, Logger: cmd.log, Now: cmd.now,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, taken.Close(context.WithoutCancel(ctx))) }()
	o := cmd.restoreOptions(m.target, taken.Catalog, taken.Backup, taken.Key)
	o.Progress = listen
	if len(cmd.flags.tables) > 0 {
		return cmd.tablesOf(ctx, m, o, began)
	}
	return cmd.databaseOf(ctx, m, o, taken)
}

// tablesOf brings tables back beside the living ones.
func (cmd *momentRescueCommand) tablesOf(ctx context.Context, m *momentRescue, o restore.Options, began time.Time) error {
	ro := rescue.Options{
		Options: o, Tables: cmd.flags.tables, FromServer: cmd.flags.fromServer, CompareValues: true,
		Whole: "pgmedic restore with the same moment, --database " + shellWord(m.database) + " and --into NAME",
	}
	if cmd.flags.inPlace {
		return cmd.putBack(ctx, ro, m.entry.Backup.ID, m.moment)
	}
	done, err := rescue.Run(ctx, ro)
	if err != nil {
		return err
	}
	done.BackupID, done.Moment, done.Seconds = m.entry.Backup.ID, m.moment, cmd.now().Sub(began).Seconds()
	done.FetchBytes, done.StoredBytes = 0, 0 // all of the base backup was
	for i := range done.Tables {
		done.Tables[i].FetchBytes = 0
	}
	return cmd.rescued(done)
}

// databaseOf brings the database back as a new one.
func (cmd *momentRescueCommand) databaseOf(ctx context.Context, m *momentRescue, o restore.Options, taken *extract.Taken) error {
	o.Into, o.Without, o.Globals = cmd.flags.into, dumpsql.Without{Rows: cmd.flags.schemaOnly, Owners: cmd.flags.noOwner}, restore.GlobalsMode(cmd.flags.globals)
	o.Displaced = true
	o.ConfirmGlobals = func(g restore.Globals) error { return cmd.confirmGlobals(ctx, g) }
	done, err := restore.Into(ctx, o)
	if err != nil {
		return err
	}
	done.BackupID, done.Moment = m.entry.Backup.ID, m.moment
	cmd.restoredBeside("backup "+done.BackupID+asOf(done.Moment), "database "+done.Database)
	// Of the base backup it shows that it was read whole, and recovered to the moment: what
	// the living server did not take says nothing of it.
	receiptErr := cmd.addReceipt(ctx, restore.Options{Catalog: m.catalog, Backup: m.entry.Backup, Key: m.key},
		&pgmedic.Receipt{Proof: pgmedic.ProofVerified, RecoverySeconds: taken.ReplaySeconds, Steps: taken.Steps})
	return cmd.restoredInto(done, receiptErr)
}

// warnPlan warns of what a plan does not say.
func (j job) warnPlan(plan *recovery.Plan) {
	for _, other := range plan.WAL.Others {
		j.log.Warn("another restore point has the same name: the recovery ends at the first one, and not at this one", "lsn", other.LSN.String(), "time", other.Time.UTC().Format(time.RFC3339))
	}
	for _, span := range plan.WAL.Unread {
		j.log.Warn("what the WAL holds is not known here: the last commit and new tablespaces may be missing in the plan", "from", span.From.String(), "to", span.To.String())
	}
}
