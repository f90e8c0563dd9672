package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

type restoreFlags struct {
	into                   string
	swap                   bool
	database               string
	fromServer, skipSafety string
	standbysHandled        bool
	skipDiskCheck, resume  bool
	tables                 []string
	dryRun                 bool
	acceptDifferences      bool
	acceptShrunk           bool
	schemaOnly, noOwner    bool
	globals, compare       string
	dump                   dumpFlags
	inPlaceFlags
}

// restoreCommand restores a backup beside the live database or in its place, or single
// tables of it.
type restoreCommand struct {
	job
	servers servers
	stores  stores
	keys    keyring
	backups backups
	swaps   swapPrinter

	args  []string
	flags restoreFlags
}

func restoreCLI(e *env) *cobra.Command {
	var flags restoreFlags
	var whole clusterFlags
	cmd := &cobra.Command{
		Use:   "restore [ID|latest]",
		Short: "Restore a backup beside the live database, or in its place",
		Long: `Restores a backup into a new database and compares the copy with what was
recorded. With --into that is all. With --swap it then backs up the live database and
swaps the two names in one transaction; the old database is kept, and
` + "`pgmedic rollback`" + ` restores it. Until the swap the live database is only read.
With --table it restores single tables beside the live ones, in a new schema, and
prints the SQL that compares them and puts missing rows back. With --in-place it then
puts them back where they were, in one transaction: one that is gone with all that
belonged to it, one that is there with the rows of the backup, or with --missing-rows
with the rows that it lacks: docs/restore.md, "Tables in place".
An object that the server refuses, or that differs in the copy, does not stop the
others: it is listed, the copy is kept, and the exit code is 15. --swap and --in-place
list what is missing and ask for the database's name; --yes does not answer that
question, only --accept-differences does.
If latest has far less than the backups before it (docs/backup.md, "Shrunk backups"), it
names the last one that has not, and asks; only --accept-shrunk answers that question.
With -q it prints the new database's name, that of the kept one, or the new schema's.
Without an id, at a terminal, you choose from a list.
With --file it restores a dump of pg_dump or pg_dumpall, compressed and encrypted as
scripts do it (gzip, zstd, bzip2, age, openssl enc), into a new database, or with --swap
in place of the live one. Nothing shows who wrote such a dump: docs/restore.md.
With --target-dir it restores a whole cluster into a data folder, from a physical backup
and the stored WAL, and PostgreSQL recovers it to the moment that --to-time, --to-lsn,
--to-name, --to-end or --to-backup names: docs/point-in-time.md. The plan is printed first;
--dry-run ends there. Without an id it begins with the newest backup that reaches the
moment.
With one of these targets and --table or --into, in place of --target-dir, it brings single
tables or one database (--database) of that moment into the living server: the cluster is
recovered in a throwaway server, which reaches nothing, and is removed. It needs room for
the whole cluster in --scratch-dir: docs/point-in-time.md.
--resume completes a --swap that was killed: it compares a loaded copy again and swaps
it in, or drops a half-loaded one.`,
		Example: `  pgmedic restore
  pgmedic restore latest --into clinic_copy
  pgmedic restore latest --into clinic --globals
  pgmedic restore latest --table public.claims --table 'audit.*'
  pgmedic restore latest --table public.claims --in-place
  pgmedic restore latest --table public.claims --in-place --missing-rows
  pgmedic restore latest --swap
  pgmedic restore 20261122T020000Z-7f3a9c --swap --yes
  pgmedic restore --file clinic.sql.gz.enc --into clinic_copy
  pgmedic restore --target-dir /srv/pg/restored --to-time '2026-11-29 10:41:59+00'
  pgmedic restore --to-time '2026-11-29 10:41:59+00' --table public.claims
  pgmedic restore --to-time '2026-11-29 10:41:59+00' --database clinic --into clinic_1041
  pgmedic restore --resume`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCluster(cmd.Flags(), whole); err != nil {
				return err
			}
			return e.notifiedDeed(cmd, "restore", func(ctx context.Context, j job) error {
				return runRestore(ctx, cmd.Flags(), whole, restoreCommand{
					job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), swaps: swapPrinter{e},
					args: args, flags: flags,
				})
			})
		},
	}
	addConnection(cmd)
	addStore(cmd)
	addUnencrypted(cmd)
	flags.add(cmd)
	addCluster(cmd, &whole)
	addSetting(cmd, "scratch-dir", "drill.scratch_dir", "with a moment and --table or --into: folder for the throwaway server; needs room for the whole cluster")
	addSetting(cmd, "jobs", "backup.jobs", "connections for rows and indexes, for parallel backups (default: one for each processor)")
	return cmd
}

// add adds the flags of a restore, without those of a cluster.
func (r *restoreFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.into, "into", "", "name of the new database")
	f.BoolVar(&r.swap, "swap", false, "replace the live database")
	f.StringArrayVar(&r.tables, "table", nil, "bring back this table alone, beside the living one: schema.table, with * and ?; may be repeated")
	f.BoolVar(&r.inPlace, "in-place", false, "with --table: put the tables back where they were")
	f.BoolVar(&r.missingRows, "missing-rows", false, "with --in-place: keep the rows of tables that are there, and add those that they lack, by primary key")
	f.StringVar(&r.database, "database", "", "with --swap: the database to replace; with --table: to bring tables back into; with a moment: to take from the cluster (default: the configured one, else the backup's)")
	f.StringVar(&r.fromServer, "from-server", "", "allow a backup of another server or database, filed under this server's name")
	f.StringVar(&r.skipSafety, "skip-safety-backup", "", "with --swap: do not back up the live database first; give the reason")
	f.BoolVar(&r.standbysHandled, "standbys-handled", false, "with --swap: I will end sessions on the standbys myself")
	f.BoolVar(&r.skipDiskCheck, "skip-disk-check", false, "with --swap: don't check whether a server on this machine has room; with a moment: whether what is taken out has")
	f.BoolVar(&r.acceptDifferences, "accept-differences", false, "with --swap, --resume or --in-place: go on with what is not complete, without asking")
	f.BoolVar(&r.acceptShrunk, "accept-shrunk", false, "restore latest although it has far less than the backups before it, without asking")
	f.BoolVar(&r.resume, "resume", false, "go on with a --swap that was killed, or clear away what it left")
	f.BoolVar(&r.dryRun, "dry-run", false, "print what would happen, and change nothing")
	f.BoolVar(&r.schemaOnly, "schema-only", false, "with --into: restore definitions only, no rows")
	f.BoolVar(&r.noOwner, "no-owner", false, "with --into: leave out owners and access lists; the restoring role owns everything")
	f.StringVar(&r.compare, "compare", "", "compare the copy with the backup by values, or by counts of rows alone (default: values, unless a drill has proven the backup so)")
	f.StringVar(&r.globals, "globals", "", "create the backup's roles and tablespaces first: missing creates those that the server lacks, all also changes existing ones")
	f.Lookup("globals").NoOptDefVal = string(restore.GlobalsMissing)
	addDump(cmd, &r.dump)
}

// runRestore runs the kind of restore that the flags ask for.
func runRestore(ctx context.Context, given *pflag.FlagSet, whole clusterFlags, command restoreCommand) error {
	if whole.dir != "" {
		return (&clusterCommand{restoreCommand: command, cluster: whole}).run(ctx)
	}
	if command.flags.dump.file != "" {
		return (&dumpCommand{restoreCommand: command, dump: command.flags.dump}).run(ctx)
	}
	if err := command.flags.dump.refuseAlone(); err != nil {
		return err
	}
	if rescuesMoment(given) {
		return (&momentRescueCommand{restoreCommand: command, moment: whole}).run(ctx)
	}
	return command.run(ctx)
}

// check refuses flags that don't go together.
func (cmd *restoreCommand) check(args []string) error {
	targets := 0
	for _, given := range []bool{cmd.flags.into != "", cmd.flags.swap, len(cmd.flags.tables) > 0} {
		if given {
			targets++
		}
	}
	if targets > 1 {
		return pgmedic.Errorf(pgmedic.KindUsage, "--into NAME makes a new database, --swap replaces the live one, --table brings single tables back beside it",
			"--into, --swap and --table exclude each other")
	}
	if targets == 0 && (cmd.flags.dryRun || !cmd.canChoose()) {
		return pgmedic.Errorf(pgmedic.KindUsage, "--into NAME makes a new database, --swap replaces the live one, --table brings single tables back beside it",
			"say where to restore to: --into NAME, --swap or --table")
	}
	if err := cmd.flags.checkInPlace(cmd.flags); err != nil {
		return err
	}
	if !cmd.flags.swap && targets > 0 && (cmd.flags.skipSafety != "" || cmd.flags.standbysHandled || cmd.flags.skipDiskCheck || cmd.flags.acceptDifferences && !cmd.flags.inPlace) || cmd.flags.into != "" && cmd.flags.database != "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave them out: without --swap no other database is touched",
			"--database, --skip-safety-backup, --standbys-handled, --skip-disk-check and --accept-differences are for --swap")
	}
	if (cmd.flags.schemaOnly || cmd.flags.noOwner) && (cmd.flags.swap || len(cmd.flags.tables) > 0) {
		return pgmedic.Errorf(pgmedic.KindUsage, "restore into a new database: --into NAME",
			"--schema-only and --no-owner are for --into: a live database without its rows or its privileges is of no use")
	}
	if err := checkComparison(cmd.flags.compare, cmd.flags); err != nil {
		return err
	}
	switch globals := restore.GlobalsMode(cmd.flags.globals); {
	case !globalsMode(cmd.flags.globals):
		return errGlobalsMode(cmd.flags.globals)
	case globals != restore.GlobalsNone && (len(cmd.flags.tables) > 0 || cmd.flags.noOwner):
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--globals makes roles, and --table and --no-owner need none")
	}
	if len(args) == 0 && cmd.flags.fromServer == "" && !cmd.canChoose() {
		return pgmedic.Errorf(pgmedic.KindUsage, "name one of `pgmedic list`, or latest", "no backup is named")
	}
	return nil
}

func (cmd *restoreCommand) run(ctx context.Context) error {
	if cmd.flags.resume {
		return cmd.resume(ctx)
	}
	if err := cmd.check(cmd.args); err != nil {
		return err
	}
	said := cmd.flags.swap
	how, err := cmd.safetySealing(ctx)
	if err != nil {
		return err
	}
	t, err := cmd.servers.target()
	if err != nil {
		return err
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := cmd.confirmedBackup(ctx, c)
	if err != nil {
		return err
	}
	if cmd.flags.swap && !said {
		if how, err = cmd.safetySealing(ctx); err != nil {
			return err
		}
	}
	if e.Backup, err = c.Whole(ctx, e); err != nil {
		return err
	}
	if !cmd.flags.dryRun {
		release, err := cmd.backups.holdInUse(ctx, c, e, "restore")
		if err != nil {
			return err
		}
		defer release()
	}
	key, err := cmd.keys.readKey(ctx, c, e.Backup)
	if err != nil {
		return err
	}
	o := cmd.restoreOptions(t, c, e.Backup, key)
	listen, done := cmd.progress()
	defer done()
	o.Progress = listen
	cmd.trail.about(act{params: map[string]string{"into": cmd.flags.into, "globals": cmd.flags.globals}, lists: map[string][]string{"tables": cmd.flags.tables}})
	if len(cmd.flags.tables) > 0 {
		return cmd.rescue(ctx, o)
	}
	if o.CountsOnly, err = cmd.backups.countsOnly(ctx, c, e.Backup, cmd.flags.compare); err != nil {
		return err
	}
	o.Without, o.Globals = dumpsql.Without{Rows: cmd.flags.schemaOnly, Owners: cmd.flags.noOwner}, restore.GlobalsMode(cmd.flags.globals)
	if cmd.flags.into != "" {
		return cmd.intoNew(ctx, o)
	}
	return cmd.swap(ctx, o, cmp.Or(cmd.flags.database, databaseName(t), e.Backup.Database.Name), how)
}

// safetySealing is how the safety backup of a swap is sealed, which is known to be possible
// before anything is asked.
func (cmd *restoreCommand) safetySealing(ctx context.Context) (how sealing, err error) {
	if cmd.flags.swap {
		return cmd.keys.sealing(ctx)
	}
	return how, nil
}

// intoNew restores into a new database, or only says how that would go.
func (cmd *restoreCommand) intoNew(ctx context.Context, o restore.Options) error {
	o.ConfirmGlobals = func(g restore.Globals) error { return cmd.confirmGlobals(ctx, g) }
	if o.Into = cmd.flags.into; cmd.flags.dryRun {
		return cmd.foresee(ctx, swap.Options{Options: o})
	}
	return cmd.into(ctx, o)
}

// confirmedBackup is the backup to restore, once it is sure that it is meant and that the
// flags fit it.
func (cmd *restoreCommand) confirmedBackup(ctx context.Context, c *catalog.Catalog) (catalog.Entry, error) {
	e, err := cmd.chooseBackup(ctx, c)
	if err == nil {
		err = refusePhysical(e.Backup, "a restore of a database")
	}
	if err != nil {
		return e, err
	}
	cmd.trail.aboutBackup(e.Backup)
	if err := cmd.confirmShrunk(ctx, e); err != nil {
		return e, err
	}
	return e, cmd.check([]string{e.Backup.ID}) // of what was chosen from the list
}

// chooseBackup is backups.get, with latest among the other server's if one is
// named. What is not said is asked for on a terminal.
func (cmd *restoreCommand) chooseBackup(ctx context.Context, c *catalog.Catalog) (catalog.Entry, error) {
	askWhat := cmd.flags.into == "" && !cmd.flags.swap && len(cmd.flags.tables) == 0
	if len(cmd.args) == 0 && cmd.canChoose() {
		f := cmd.keys.trusting(catalog.Filter{Server: cmd.cfg.Server})
		if cmd.flags.fromServer != "" {
			f.Server = cmd.flags.fromServer
		}
		listing, err := c.List(ctx, f)
		listing.Entries = slices.DeleteFunc(listing.Entries, func(e catalog.Entry) bool { return e.Backup.Method == pgmedic.MethodPhysical })
		if err == nil && len(listing.Entries) == 0 {
			err = pgmedic.Errorf(pgmedic.KindNotFound, "look elsewhere with --store, see that its disk is mounted, or take one: pgmedic backup", "no backup in %s", location(c))
		}
		if err != nil {
			return catalog.Entry{}, err
		}
		return cmd.ask(ctx, listing.Entries, nil, askWhat)
	}
	if cmd.flags.fromServer != "" && (len(cmd.args) == 0 || cmd.args[0] == catalog.Latest) {
		f, err := cmd.backups.filter()
		if err != nil {
			return catalog.Entry{}, err
		}
		f.Server = cmd.flags.fromServer
		return c.Get(ctx, catalog.Latest, f)
	}
	e, err := cmd.backups.get(ctx, c, cmd.args)
	if err != nil || !askWhat {
		return e, err
	}
	return cmd.ask(ctx, nil, &e, true)
}

// ask has a person choose, and enters what was chosen.
func (cmd *restoreCommand) ask(ctx context.Context, listing []catalog.Entry, given *catalog.Entry, askWhat bool) (catalog.Entry, error) {
	choice, err := cmd.choose(ctx, listing, given, askWhat)
	if err != nil {
		return catalog.Entry{}, err
	}
	if askWhat {
		cmd.flags.into, cmd.flags.swap = choice.into, choice.swap
	}
	return choice.entry, nil
}

func (cmd *restoreCommand) into(ctx context.Context, o restore.Options) error {
	cmd.begin(o.Into)
	done, err := restore.Into(ctx, o)
	if err != nil {
		return err
	}
	cmd.restoredBeside("backup "+done.BackupID, "database "+done.Database)
	receiptErr := cmd.addReceipt(ctx, o, &pgmedic.Receipt{
		Proof: proofOf(o), RecoverySeconds: done.RecoverySeconds, Steps: done.Steps, Checks: done.Checks,
	})
	return cmd.restoredInto(done, receiptErr)
}

// restoredInto says what became of a restore into a new database.
func (cmd *restoreCommand) restoredInto(done *restore.Restored, receiptErr error) error {
	cmd.warnSettings(done.RefusedSettings)
	receiptErr = worse(done.Degraded(), receiptErr)
	if cmd.global.json {
		if err := cmd.printJSON(done); err != nil {
			return err
		}
		return receiptErr
	}
	if cmd.global.quiet {
		cmd.printf("%s\n", done.Database)
		return receiptErr
	}
	what := cmd.paint(cmd.stdoutTTY).good("restored")
	if done.Incomplete {
		what = cmd.paint(cmd.stdoutTTY).bad("restored, but not completely:")
	}
	cmd.wrapf("%s backup %s%s into database %s in %s\n", what, done.BackupID, asOf(done.Moment), words.Clean(done.Database), secondsWords(done.Seconds))
	cmd.printChecks(done.Checks)
	cmd.printMissing(done.Checks)
	access := ""
	if done.Withheld {
		access = "its owner and superusers only, because something that protects rows is missing; to open it: GRANT CONNECT ON DATABASE " +
			words.Clean(sqltext.QuoteIdent(done.Database)) + " TO …"
	}
	cmd.fields("globals", globalsWords(done.Globals), "access", access)
	return receiptErr
}

func (j job) warnSettings(refused []string) {
	for _, name := range refused {
		j.log.Warn("this server does not take a setting of the database", "setting", name)
	}
}

// proofOf is the degree that a restore reaches: what it loads it reads whole.
func proofOf(o restore.Options) pgmedic.Proof {
	if o.Without.Rows {
		return pgmedic.ProofTaken // no row was read
	}
	return pgmedic.ProofVerified
}

// addReceipt records a restore beside its backup. The restore is done by
// then: failing to record it is no more than a degraded success, and an
// interrupt that comes now changes nothing.
func (cmd *restoreCommand) addReceipt(ctx context.Context, o restore.Options, r *pgmedic.Receipt) error {
	r.Format, r.Kind, r.BackupID, r.At = pgmedic.ReceiptFormat, pgmedic.ReceiptRestore, o.Backup.ID, cmd.now().UTC()
	r.Host, r.Programs = hostName(), pgmedic.Programs{Pgmedic: cmd.version}
	r.Outcome = pgmedic.OutcomeOK
	if _, failed := r.Failed(); failed {
		r.Outcome = pgmedic.OutcomeFailed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := drill.AddReceipt(ctx, o.Catalog, o.Backup, o.Key, r); err != nil {
		return pgmedic.Errorf(pgmedic.KindDegraded, "the restore is done; make the store writable to have it recorded", "%w", err)
	}
	return nil
}

// checkComparison refuses a --compare that means nothing.
func checkComparison(asked string, flags restoreFlags) error {
	switch pgmedic.Comparison(asked) {
	case "":
		return nil
	case pgmedic.ComparedValues, pgmedic.ComparedCounts:
	default:
		return pgmedic.Errorf(pgmedic.KindUsage, "say --compare values or --compare counts", "--compare is values or counts, not %q", asked)
	}
	if len(flags.tables) > 0 || flags.schemaOnly {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave --compare out", "--compare is for restores of whole databases with their rows")
	}
	return nil
}
