package main

import (
	"context"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/restore"
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
	schemaOnly, noOwner    bool
	globals, compare       string
}

func (a *app) restoreCommand() *cobra.Command {
	var flags restoreFlags
	cmd := &cobra.Command{
		Use:   "restore [ID|latest]",
		Short: "Restore a backup beside the live database, or in its place",
		Long: `Restores a backup into a new database, always, and compares the copy with what
was recorded. With --into that is all. With --swap the live database is then
backed up and the two trade names in one transaction; the old one is kept, and
` + "`pgmedic rollback`" + ` puts it back. Up to the swap the live database is only read.
With --table single tables come back beside the living ones, in a schema of their
own, and the SQL that compares them and puts missing rows back is printed.
An object that the server refuses, or that comes out otherwise, costs no other one:
it is named, the copy is kept, and the exit code is 15. --swap lists what is missing
and asks for the database's name again; --yes does not answer that, only
--accept-differences does.
With -q it prints the new database's name, that of the one that is kept, or the
new schema's. Without an id, on a terminal, there is a list to choose from.
--resume looks for what a --swap left that was killed: it swaps a copy in that was
loaded and compared, having compared it again, and drops a half-loaded one.`,
		Example: `  pgmedic restore
  pgmedic restore latest --into clinic_copy
  pgmedic restore latest --into clinic --globals
  pgmedic restore latest --table public.claims --table 'audit.*'
  pgmedic restore latest --swap
  pgmedic restore 20261122T020000Z-7f3a9c --swap --yes
  pgmedic restore --resume`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			if flags.resume {
				return a.resume(cmd.Context(), args, flags)
			}
			if err := a.checkRestore(args, flags); err != nil {
				return err
			}
			return a.restore(cmd.Context(), args, flags)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	addUnencrypted(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.into, "into", "", "name of the new database to make")
	f.BoolVar(&flags.swap, "swap", false, "replace the live database")
	f.StringArrayVar(&flags.tables, "table", nil, "bring back this table alone, beside the living one: schema.table, with * and ?; may be repeated")
	f.StringVar(&flags.database, "database", "", "with --swap: the database to replace; with --table: to bring tables back into (default: the configured one, else the backup's)")
	f.StringVar(&flags.fromServer, "from-server", "", "allow a backup of another server or database, filed under this server's name")
	f.StringVar(&flags.skipSafety, "skip-safety-backup", "", "with --swap: take no backup of the live database first, for this reason")
	f.BoolVar(&flags.standbysHandled, "standbys-handled", false, "with --swap: you will end the sessions on standbys yourself")
	f.BoolVar(&flags.skipDiskCheck, "skip-disk-check", false, "with --swap: don't ask whether a server on this machine has room")
	f.BoolVar(&flags.acceptDifferences, "accept-differences", false, "with --swap or --resume: make a copy live that is not complete, without asking")
	f.BoolVar(&flags.resume, "resume", false, "go on with a --swap that was killed, or clear away what it left")
	f.BoolVar(&flags.dryRun, "dry-run", false, "say what would happen, and make nothing")
	f.BoolVar(&flags.schemaOnly, "schema-only", false, "with --into: definitions alone, without rows")
	f.BoolVar(&flags.noOwner, "no-owner", false, "with --into: leave owners and access lists out; all is the restoring role's")
	f.StringVar(&flags.compare, "compare", "", "compare the copy with the backup by values, or by counts of rows alone (default: values, unless a drill has proven the backup so)")
	f.StringVar(&flags.globals, "globals", "", "make the backup's roles and tablespaces first: missing, and with all also change those that are there")
	f.Lookup("globals").NoOptDefVal = string(restore.GlobalsMissing)
	addSetting(cmd, "jobs", "backup.jobs", "connections for rows and indexes, for parallel backups (default: one for each processor)")
	return cmd
}

// checkRestore refuses flags that don't go together.
func (a *app) checkRestore(args []string, flags restoreFlags) error {
	targets := 0
	for _, given := range []bool{flags.into != "", flags.swap, len(flags.tables) > 0} {
		if given {
			targets++
		}
	}
	if targets > 1 {
		return pgmedic.Errorf(pgmedic.KindUsage, "--into NAME makes a new database, --swap replaces the live one, --table brings single tables back beside it",
			"--into, --swap and --table exclude each other")
	}
	if targets == 0 && (flags.dryRun || !a.canChoose()) {
		return pgmedic.Errorf(pgmedic.KindUsage, "--into NAME makes a new database, --swap replaces the live one, --table brings single tables back beside it",
			"say where to restore to: --into NAME, --swap or --table")
	}
	if !flags.swap && targets > 0 && (flags.skipSafety != "" || flags.standbysHandled || flags.skipDiskCheck || flags.acceptDifferences) || flags.into != "" && flags.database != "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave them out: without --swap no other database is touched",
			"--database, --skip-safety-backup, --standbys-handled, --skip-disk-check and --accept-differences are for --swap")
	}
	if (flags.schemaOnly || flags.noOwner) && (flags.swap || len(flags.tables) > 0) {
		return pgmedic.Errorf(pgmedic.KindUsage, "restore into a new database: --into NAME",
			"--schema-only and --no-owner are for --into: a live database without its rows or its rights serves nobody")
	}
	if err := checkComparison(flags.compare, flags); err != nil {
		return err
	}
	switch globals := restore.GlobalsMode(flags.globals); {
	case globals != restore.GlobalsNone && globals != restore.GlobalsMissing && globals != restore.GlobalsAll:
		return pgmedic.Errorf(pgmedic.KindUsage, "say --globals, or --globals=all", "--globals is missing or all, not %q", flags.globals)
	case globals != restore.GlobalsNone && (len(flags.tables) > 0 || flags.noOwner):
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--globals makes roles, and --table and --no-owner need none")
	}
	if len(args) == 0 && flags.fromServer == "" && !a.canChoose() {
		return pgmedic.Errorf(pgmedic.KindUsage, "name one of `pgmedic list`, or latest", "no backup is named")
	}
	return nil
}

func (a *app) restore(ctx context.Context, args []string, flags restoreFlags) error {
	said := flags.swap
	if said {
		if err := a.prepareBackup(); err != nil {
			return err
		}
	}
	t, err := a.target()
	if err != nil {
		return err
	}
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := a.chooseBackup(ctx, c, args, &flags)
	if err != nil {
		return err
	}
	a.tellShrunk(e.Backup.ID, e.Shrunk)
	if err := a.checkRestore([]string{e.Backup.ID}, flags); err != nil {
		return err // of what was chosen from the list
	}
	if flags.swap && !said {
		if err := a.prepareBackup(); err != nil {
			return err
		}
	}
	if e.Backup, err = c.Whole(ctx, e); err != nil {
		return err
	}
	if !flags.dryRun {
		release, err := a.holdInUse(ctx, c, e, "restore")
		if err != nil {
			return err
		}
		defer release()
	}
	key, err := a.readKey(ctx, c, e.Backup)
	if err != nil {
		return err
	}
	o := a.restoreOptions(t, c, e.Backup, key)
	listen, done := a.progress()
	defer done()
	o.Progress = listen
	if len(flags.tables) > 0 {
		return a.rescue(ctx, o, flags)
	}
	if o.CountsOnly, err = a.countsOnly(ctx, c, e.Backup, flags.compare); err != nil {
		return err
	}
	o.Without, o.Globals = dumpsql.Without{Rows: flags.schemaOnly, Owners: flags.noOwner}, restore.GlobalsMode(flags.globals)
	if flags.into != "" {
		o.ConfirmGlobals = func(g restore.Globals) error { return a.confirmGlobals(ctx, g) }
		if o.Into = flags.into; flags.dryRun {
			return a.foresee(ctx, restore.SwapOptions{Options: o})
		}
		return a.restoreInto(ctx, o)
	}
	live := flags.database
	if live == "" {
		if live = a.databaseName(t); live == "" {
			live = e.Backup.Database.Name
		}
	}
	return a.restoreSwap(ctx, o, live, flags)
}

// chooseBackup is getBackup, with latest among the other server's if one is
// named. What is not said is asked for on a terminal.
func (a *app) chooseBackup(ctx context.Context, c *catalog.Catalog, args []string, flags *restoreFlags) (catalog.Entry, error) {
	askWhat := flags.into == "" && !flags.swap && len(flags.tables) == 0
	if len(args) == 0 && a.canChoose() {
		f := a.trusting(catalog.Filter{Server: a.cfg.Server})
		if flags.fromServer != "" {
			f.Server = flags.fromServer
		}
		listing, err := c.List(ctx, f)
		if err == nil && len(listing.Entries) == 0 {
			err = pgmedic.Errorf(pgmedic.KindNotFound, "look elsewhere with --store, see that its disk is mounted, or take one: pgmedic backup", "no backup in %s", location(c))
		}
		if err != nil {
			return catalog.Entry{}, err
		}
		return a.ask(ctx, listing.Entries, nil, askWhat, flags)
	}
	if flags.fromServer != "" && (len(args) == 0 || args[0] == catalog.Latest) {
		f, err := a.filter()
		if err != nil {
			return catalog.Entry{}, err
		}
		f.Server = flags.fromServer
		return c.Get(ctx, catalog.Latest, f)
	}
	e, err := a.getBackup(ctx, c, args)
	if err != nil || !askWhat {
		return e, err
	}
	return a.ask(ctx, nil, &e, true, flags)
}

// ask has a person choose, and enters what was chosen.
func (a *app) ask(ctx context.Context, listing []catalog.Entry, given *catalog.Entry, askWhat bool, flags *restoreFlags) (catalog.Entry, error) {
	choice, err := a.choose(ctx, listing, given, askWhat)
	if err != nil {
		return catalog.Entry{}, err
	}
	if askWhat {
		flags.into, flags.swap = choice.into, choice.swap
	}
	return choice.entry, nil
}

func (a *app) restoreInto(ctx context.Context, o restore.Options) error {
	done, err := restore.Into(ctx, o)
	if err != nil {
		return err
	}
	receiptErr := a.restoreReceipt(ctx, o, &pgmedic.Receipt{
		Proof: proofOf(o), RecoverySeconds: done.RecoverySeconds, Steps: done.Steps, Checks: done.Checks,
	})
	a.warnSettings(done.RefusedSettings)
	receiptErr = worse(done.Degraded(), receiptErr)
	if a.global.json {
		if err := a.printJSON(done); err != nil {
			return err
		}
		return receiptErr
	}
	if a.global.quiet {
		a.printf("%s\n", done.Database)
		return receiptErr
	}
	what := a.paint(a.stdoutTTY).good("restored")
	if done.Incomplete {
		what = a.paint(a.stdoutTTY).bad("restored, but not completely:")
	}
	a.printf("%s backup %s into database %s in %s\n", what, done.BackupID, words.Clean(done.Database), secondsWords(done.Seconds))
	a.printChecks(done.Checks)
	a.printMissing(done.Checks)
	access := ""
	if done.Withheld {
		access = "its owner and superusers only, because something that protects rows is missing; to open it: GRANT CONNECT ON DATABASE " +
			words.Clean(sqltext.QuoteIdent(done.Database)) + " TO …"
	}
	a.fields("globals", globalsWords(done.Globals), "access", access)
	return receiptErr
}

// wholeHash matches a hash that is too long for a line; receipts and JSON have
// all of it.
var wholeHash = regexp.MustCompile(`(sha256 [0-9a-f]{12})[0-9a-f]{52}`)

func (a *app) printChecks(checks []pgmedic.Check) { a.printChecksAt(2, checks) }

// printChecksAt is printChecks with the lines so many columns to the right.
func (a *app) printChecksAt(column int, checks []pgmedic.Check) {
	p := a.paint(a.stdoutTTY)
	width := 0
	for _, c := range checks {
		width = max(width, len(words.Clean(c.Name)))
	}
	for _, c := range checks {
		a.printf("%*s%s %-*s  %s\n", column, "", p.outcome(c.Outcome), width, words.Clean(c.Name),
			a.fit(wholeHash.ReplaceAllString(words.Clean(c.Detail), "$1…"), column+width+10))
	}
}

// mostMissing is how many lines of what is missing are printed.
const mostMissing = 20

// printMissing lists what a copy lacks or has otherwise, where the checks' own lines
// have not named all of it.
func (a *app) printMissing(checks []pgmedic.Check) {
	missing := restore.Missing(checks)
	if len(missing) == 0 {
		return
	}
	a.printf("missing or different:\n")
	for _, line := range missing[:min(len(missing), mostMissing)] {
		a.printf("  %s\n", words.Clean(line))
	}
	if n := len(missing) - mostMissing; n > 0 {
		a.printf("  … and %s more: --json has all of them\n", pgmedic.Count(int64(n)))
	}
}

func (a *app) warnSettings(refused []string) {
	for _, name := range refused {
		a.log.Warn("this server does not take a setting of the database", "setting", name)
	}
}

// proofOf is the degree that a restore reaches: what it loads it reads whole.
func proofOf(o restore.Options) pgmedic.Proof {
	if o.Without.Rows {
		return pgmedic.ProofTaken // no row was read
	}
	return pgmedic.ProofVerified
}

// restoreReceipt records a restore beside its backup. The restore is done by
// then: failing to record it is no more than a degraded success, and an
// interrupt that comes now changes nothing.
func (a *app) restoreReceipt(ctx context.Context, o restore.Options, r *pgmedic.Receipt) error {
	r.Format, r.Kind, r.BackupID, r.At = pgmedic.ReceiptFormat, pgmedic.ReceiptRestore, o.Backup.ID, a.now().UTC()
	r.Host, r.Programs = a.host(), pgmedic.Programs{Pgmedic: a.version}
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
