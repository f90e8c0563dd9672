package main

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/dumpfile"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/words"
)

// dumpFlags are those of a restore of another program's dump.
type dumpFlags struct {
	file, sha256, format, maxSize  string
	passphraseFile, passwordSecret string
	iterations                     int
	allowConnect, noAmcheck        bool
}

// dumpFormats are the values of --format.
func dumpFormats() []string {
	var all []string
	for _, f := range []dumpfile.Format{dumpfile.FormatPlain, dumpfile.FormatCluster, dumpfile.FormatCustom, dumpfile.FormatTar, dumpfile.FormatDirectory} {
		all = append(all, string(f))
	}
	return all
}

func addDump(cmd *cobra.Command, flags *dumpFlags) {
	f := cmd.Flags()
	f.StringVar(&flags.file, "file", "", "restore a dump of pg_dump or pg_dumpall: a file, a folder of -Fd, an address (https://, s3://, azblob://, gs://, sftp://), or - for standard input")
	f.StringVar(&flags.sha256, "sha256", "", "with --file: the file's SHA-256, which is compared before anything is made; required for https://")
	f.StringVar(&flags.format, "format", "", "with --file: accept this format only: "+strings.Join(dumpFormats(), ", ")+" (default: read from the dump)")
	f.StringVar(&flags.passphraseFile, "passphrase-file", "", "with --file: file with the passphrase of an encrypted dump (default: backup.encryption_key)")
	f.StringVar(&flags.passwordSecret, "password-secret", "", "with --file: where that passphrase is kept: "+referenceForms)
	f.StringVar(&flags.maxSize, "max-size", "", "with --file: stop if the dump is larger than this when it is unpacked, such as 500GB (default: 100 times the file, at least 1 GiB)")
	f.IntVar(&flags.iterations, "openssl-iter", 0, "with --file: also try this -iter of openssl enc")
	f.BoolVar(&flags.allowConnect, "allow-connect", false, "with --file: accept a dump of pg_dump -C, and leave out what it says of the database as a whole")
	f.BoolVar(&flags.noAmcheck, "no-amcheck", false, "with --file: don't read every index and table of the new database with amcheck")
}

// dumpCommand restores a dump that another program made, into a new database or in the
// place of the live one.
type dumpCommand struct {
	restoreCommand
	dump dumpFlags
}

// refuseAlone refuses flags that mean nothing without --file.
func (d dumpFlags) refuseAlone() error {
	if d != (dumpFlags{}) {
		return pgmedic.Errorf(pgmedic.KindUsage, "add --file, or leave them out",
			"--sha256, --format, --passphrase-file, --password-secret, --max-size, --openssl-iter, --allow-connect and --no-amcheck are for --file")
	}
	return nil
}

// check refuses flags that don't go with --file.
func (cmd *dumpCommand) check() error {
	args, flags, d := cmd.args, cmd.flags, cmd.dump
	switch {
	case len(args) > 0:
		return pgmedic.Errorf(pgmedic.KindUsage, "leave one of them out", "--file names a dump, and %q a backup", args[0])
	case flags.resume || len(flags.tables) > 0 || flags.inPlace || flags.missingRows || flags.compare != "":
		return pgmedic.Errorf(pgmedic.KindUsage, "restore the dump into a new database, and take from there what is needed",
			"--resume, --table and --compare are for backups: a dump has no list of what is in it")
	case flags.globals != "" && flags.noOwner:
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--globals makes roles, and --no-owner needs none")
	case !globalsMode(flags.globals):
		return errGlobalsMode(flags.globals)
	case flags.into != "" && flags.swap:
		return pgmedic.Errorf(pgmedic.KindUsage, "--into NAME makes a new database, --swap replaces the live one", "--into and --swap exclude each other")
	case flags.acceptShrunk:
		return pgmedic.Errorf(pgmedic.KindUsage, "leave it out", "--accept-shrunk is for latest, and a dump is not compared with others")
	case !flags.swap && (flags.skipSafety != "" || flags.standbysHandled || flags.skipDiskCheck || flags.acceptDifferences || flags.fromServer != ""):
		return pgmedic.Errorf(pgmedic.KindUsage, "leave them out: without --swap no other database is touched",
			"--from-server, --skip-safety-backup, --standbys-handled, --skip-disk-check and --accept-differences are for --swap")
	case flags.swap && (flags.schemaOnly || flags.noOwner):
		return pgmedic.Errorf(pgmedic.KindUsage, "restore into a new database: --into NAME",
			"--schema-only and --no-owner are for --into: a live database without its rows or its privileges is of no use")
	case d.format != "" && !slices.Contains(dumpFormats(), d.format):
		return pgmedic.Errorf(pgmedic.KindUsage, "use "+strings.Join(dumpFormats(), ", "), "--format: unknown format %q", d.format)
	case d.passphraseFile != "" && d.passwordSecret != "":
		return pgmedic.Errorf(pgmedic.KindUsage, "leave one of them out", "--passphrase-file and --password-secret exclude each other")
	case d.iterations < 0 || d.iterations > maxIterations:
		return pgmedic.Errorf(pgmedic.KindUsage, "give the number of openssl's -iter", "--openssl-iter must be a whole number from 1 to %d", maxIterations)
	case strings.HasPrefix(d.file, "https://") && d.sha256 == "":
		return pgmedic.Errorf(pgmedic.KindUsage, "get the checksum from the host that made the dump: sha256sum FILE prints it", "a dump from https:// needs --sha256")
	}
	_, err := parseSize(d.maxSize)
	return err
}

// maxIterations bounds --openssl-iter: a minute of a processor.
const maxIterations = 100_000_000

var sizePattern = regexp.MustCompile(`^(\d{1,12}) ?([KMGT]?)(i?)B?$`)

// parseSize reads a size such as 500GB or 2GiB, in bytes. Empty is zero.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	m := sizePattern.FindStringSubmatch(text)
	if m == nil || m[2] == "" && m[3] != "" {
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "write 500GB, 20GiB or a number of bytes", "--max-size %q is not a size", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	unit := int64(1000)
	if m[3] != "" {
		unit = 1024
	}
	for range strings.Index("KMGT", cmp.Or(m[2], "K")) + 1 {
		if m[2] != "" {
			n *= unit
		}
		if n > 1<<50 {
			break
		}
	}
	if err != nil || n < 1 || n > 1<<50 {
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "write 500GB, 20GiB or a number of bytes", "--max-size %q is not a size up to 1 PiB", text)
	}
	return n, nil
}

// dumpFacts are what is known of a dump, as --json prints it.
type dumpFacts struct {
	File        string          `json:"file"`
	Format      dumpfile.Format `json:"format"`
	Layers      []string        `json:"layers"`
	Database    string          `json:"database,omitempty"`
	PgDump      string          `json:"pg_dump,omitempty"`
	Server      string          `json:"server_version,omitempty"`
	SHA256      string          `json:"sha256,omitempty"`
	StoredBytes int64           `json:"stored_bytes"`
	// Proof is always that nothing shows where the dump is from.
	Proof string `json:"proof"`
}

// unknownOrigin is the proof of a dump that another program made.
const unknownOrigin = "unknown origin"

func (cmd *dumpCommand) run(ctx context.Context) error {
	if err := cmd.check(); err != nil {
		return err
	}
	flags := cmd.flags
	how, err := cmd.safetySealing(ctx)
	if err != nil {
		return err
	}
	t, err := cmd.servers.target()
	if err != nil {
		return err
	}
	passphrase, err := cmd.passphrase(ctx)
	if err != nil {
		return err
	}
	file, name, remove, err := cmd.fetch(ctx)
	if err != nil {
		return err
	}
	defer remove()
	do, err := cmd.options(file, passphrase)
	if err != nil {
		return err
	}
	f, err := dumpfile.Open(ctx, do)
	if err != nil {
		return err
	}
	defer f.Close()
	checksum, err := f.CheckChecksum(ctx, cmd.dump.sha256)
	if err != nil {
		return err
	}
	to, err := cmd.place(f, name, databaseName(t))
	if err != nil {
		return err
	}
	sum, err := f.Checksum(ctx)
	if err != nil {
		return err
	}
	o := cmd.loading(ctx, t, f, to)
	o.Dump.Name, o.Dump.SHA256, o.Dump.Checks = name, sum, []pgmedic.Check{checksum, originCheck(f)}
	if o.Backup, err = o.Dump.Describe(ctx, o, to.live); err != nil {
		return err
	}
	cmd.trail.about(act{object: name, params: map[string]string{"mode": "file", "sha256": sum, "into": to.into, "database": to.live, "globals": flags.globals}})
	listen, done := cmd.progress()
	defer done()
	o.Progress = listen
	facts := dumpFacts{File: name, Format: f.Format, Layers: f.Layers, Database: cmp.Or(to.part, f.Database), PgDump: f.Program, Server: f.Server, SHA256: sum, StoredBytes: f.StoredBytes, Proof: unknownOrigin}
	switch {
	case flags.swap:
		return cmd.swap(ctx, o, to.live, how, facts)
	case flags.dryRun:
		return cmd.foresee(ctx, swap.Options{Options: o})
	}
	return cmd.into(ctx, o, facts)
}

// loading returns the options of the restore of a dump, before its origin is known.
func (cmd *dumpCommand) loading(ctx context.Context, t postgres.Target, f *dumpfile.File, to dumpPlace) restore.Options {
	o := cmd.restoreOptions(t, nil, nil, nil)
	o.Into, o.Without = to.into, dumpsql.Without{Rows: cmd.flags.schemaOnly, Owners: cmd.flags.noOwner}
	o.Globals = restore.GlobalsMode(cmd.flags.globals)
	if !cmd.flags.swap { // which asks once, for all that it is about to do
		o.ConfirmGlobals = func(g restore.Globals) error { return cmd.confirmGlobals(ctx, g) }
	}
	o.Dump = cmd.describe(f, to.part)
	return o
}

// describe returns what a restore needs of a dump, or of one database in it.
func (cmd *dumpCommand) describe(f *dumpfile.File, part string) *restore.Dump {
	connects := cmd.dump.allowConnect || part != ""
	d := &restore.Dump{
		Open: f.Script, Connects: connects, Part: part,
		ModifiedAt: f.ModifiedAt, Server: f.Server, StoredBytes: f.StoredBytes,
		Check: func(st *dumpsql.Statement) (bool, error) {
			j, err := dumpfile.CheckStatement(st, connects)
			return j == dumpfile.LeaveOut, err
		},
	}
	if cmd.dump.noAmcheck {
		d.SkipAmcheck = "left out by --no-amcheck"
	}
	return d
}

// dumpPlace is where a dump goes to.
type dumpPlace struct {
	// live is the database to replace, or else into the one to make; part is the one of
	// a dump of pg_dumpall.
	live, into, part string
}

// place says where a dump goes to, which is called name. Configured is the database of
// the configuration.
func (cmd *dumpCommand) place(f *dumpfile.File, name, configured string) (to dumpPlace, err error) {
	flags := cmd.flags
	if flags.swap {
		if to.live = cmp.Or(flags.database, configured, f.Database); to.live == "" {
			return to, pgmedic.Errorf(pgmedic.KindUsage, "name it with --database, DB_NAME or in DATABASE_URL", "no database is named that is to be replaced")
		}
		if f.Format != dumpfile.FormatCluster && f.Database != to.live && flags.fromServer == "" {
			return to, pgmedic.Errorf(pgmedic.KindUsage, "to restore it all the same, say where it is from: --from-server NAME", "%s, not of %q", databaseWords(name, f.Database), to.live)
		}
	} else {
		to.into = cmp.Or(flags.into, databases.DerivedName(cmp.Or(flags.database, f.Database, stem(name)), "_from_dump"))
	}
	switch {
	case f.Format == dumpfile.FormatCluster:
		if to.part = cmp.Or(flags.database, to.live); to.part == "" {
			return to, pgmedic.Errorf(pgmedic.KindUsage, "name one of its databases: --database NAME", "%s is a dump of pg_dumpall, of a whole server", name)
		}
	case flags.globals != "":
		return to, pgmedic.Errorf(pgmedic.KindUsage, "leave --globals out, and make the roles first", "%s is of one database: only a dump of pg_dumpall has the roles of a server", name)
	case flags.database != "" && !flags.swap:
		return to, pgmedic.Errorf(pgmedic.KindUsage, "leave it out", "--database is for --swap, and for a dump of pg_dumpall: %s is of one database", name)
	}
	return to, nil
}

// databaseWords say of which database a dump is.
func databaseWords(name, database string) string {
	if database == "" {
		return name + " does not say of which database it is"
	}
	return fmt.Sprintf("%s is of database %q", name, database)
}

// originCheck says what shows who wrote a dump.
func originCheck(f *dumpfile.File) pgmedic.Check {
	c := pgmedic.Check{Name: "origin", Outcome: pgmedic.OutcomeSkipped, Detail: unknownOrigin + ": nothing shows who wrote the dump"}
	switch {
	case f.Encrypted && f.Authenticated:
		c.Detail += "; its encryption shows that it was not changed since by anyone without the key"
	case f.Encrypted:
		c.Detail += ", or whether somebody changed it since: openssl enc does not notice"
	}
	return c
}

var notInNames = regexp.MustCompile(`[^a-z0-9_]+`)

// stem is a name for a database made of that of a file.
func stem(name string) string {
	base, _, _ := strings.Cut(path.Base(filepath.ToSlash(name)), ".")
	return cmp.Or(strings.Trim(notInNames.ReplaceAllString(strings.ToLower(base), "_"), "_"), "restored")
}

// options are those of the configuration and the flags.
func (cmd *dumpCommand) options(file, passphrase string) (dumpfile.Options, error) {
	d := cmd.dump
	o := dumpfile.Options{
		Path: file, Format: dumpfile.Format(d.format), Passphrase: passphrase, Iterations: d.iterations,
		Tools: cmd.tools(), Staging: restore.Staging,
	}
	var err error
	if o.MaxBytes, err = parseSize(d.maxSize); err != nil {
		return o, err
	}
	if o.Identities, err = cmd.keys.fileIdentities(); err != nil {
		return o, err
	}
	return o, nil
}

// fetch brings a dump here that is elsewhere, or can be read only once. Name is
// what people call it; remove removes what was kept of it.
func (cmd *dumpCommand) fetch(ctx context.Context) (file, name string, remove func(), err error) {
	d := cmd.dump
	remove = func() {}
	scheme, _, remote := strings.Cut(d.file, "://")
	if d.file != "-" && !remote {
		return d.file, d.file, remove, nil
	}
	var object config.Object
	if remote && scheme != "https" {
		if object, err = cmd.cfg.ParseObject(d.file); err != nil {
			return "", "", remove, pgmedic.Errorf(pgmedic.KindUsage, pgmedic.HintOf(err)+"; or download it with another program and pipe it into --file -", "--file: %w", err)
		}
	}
	dir, remove, err := restore.Staging()
	if err != nil {
		return "", "", func() {}, err
	}
	defer func() {
		if err != nil {
			remove()
		}
	}()
	size, err := parseSize(d.maxSize)
	if err != nil {
		return "", "", remove, err
	}
	o := dumpfile.SpoolOptions{Dir: dir, Name: d.file, MaxBytes: size}
	switch {
	case scheme == "https" && remote:
		file, name, err = dumpfile.Download(ctx, dumpfile.DownloadOptions{SpoolOptions: o, URL: d.file})
	case remote:
		name = d.file
		file, err = cmd.fetchObject(ctx, object, o)
	default:
		o.Name, name = "standard input", "standard input"
		file, err = dumpfile.Spool(ctx, cmd.stdin, o)
	}
	return file, name, remove, err
}

// fetchObject brings an object of a bucket, or a file of another host, here.
func (cmd *dumpCommand) fetchObject(ctx context.Context, object config.Object, o dumpfile.SpoolOptions) (string, error) {
	c, closed, err := cmd.stores.openPlace(ctx, object.Place, object.Access, true)
	if err != nil {
		return "", fmt.Errorf("open the place of the dump: %w", err)
	}
	defer closed()
	r, err := c.Store().Open(ctx, object.Name, 0, -1)
	if err != nil {
		return "", fmt.Errorf("open the dump: %w", err)
	}
	defer func() { _ = r.Close() }() // only read
	return dumpfile.Spool(ctx, r, o)
}

// into restores a dump into a new database.
func (cmd *dumpCommand) into(ctx context.Context, o restore.Options, facts dumpFacts) error {
	cmd.begin(o.Into)
	done, err := restore.Into(ctx, o)
	if err != nil {
		return err
	}
	cmd.restoredBeside("a dump", "database "+done.Database)
	degraded := done.Degraded()
	done.BackupID = "" // there is none
	if cmd.global.json {
		if err := cmd.printJSON(struct {
			Dump dumpFacts `json:"dump"`
			*restore.Restored
		}{facts, done}); err != nil {
			return err
		}
		return degraded
	}
	if cmd.global.quiet {
		cmd.printf("%s\n", done.Database)
		return degraded
	}
	what := cmd.paint(cmd.stdoutTTY).good("restored")
	if done.Incomplete {
		what = cmd.paint(cmd.stdoutTTY).bad("restored, but not completely:")
	}
	cmd.wrapf("%s %s into database %s in %s\n", what, words.Clean(facts.File), words.Clean(done.Database), secondsWords(done.Seconds))
	cmd.printFacts(facts)
	cmd.printChecks(done.Checks)
	cmd.printMissing(done.Checks)
	cmd.fields("globals", globalsWords(done.Globals))
	access := ""
	if done.Withheld {
		access = "its owner and superusers only, because something that protects rows is missing"
	}
	cmd.fields("access", access)
	return degraded
}

// printFacts says what a dump is.
func (cmd *dumpCommand) printFacts(facts dumpFacts) {
	of := words.Clean(facts.Database)
	if facts.Server != "" {
		// Plain SQL does not name its database.
		of = cmp.Or(of, "not named in the dump") + " (PostgreSQL " + words.Clean(facts.Server) + ")"
	}
	cmd.fields("format", string(facts.Format), "inside of", strings.Join(facts.Layers, ", "), "of database", of)
}

// swap replaces a live database by a dump.
func (cmd *dumpCommand) swap(ctx context.Context, o restore.Options, live string, how sealing, facts dumpFacts) error {
	c, closed, err := cmd.stores.makeCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	o.Catalog = c
	s, err := cmd.swapOptions(ctx, o, live, how)
	if err != nil {
		return err
	}
	s.Confirm = func(p swap.Plan) error { return cmd.swapConfirmed(ctx, p, cmd.confirmDump(ctx, p, facts)) }
	if cmd.flags.dryRun {
		return cmd.foresee(ctx, s)
	}
	done, err := swap.Replace(ctx, s)
	if err != nil {
		return err
	}
	cmd.swapped(done, "swapped", "a dump of another program")
	cmd.warnSettings(done.RefusedSettings)
	done.BackupID, done.Incoming = "", facts.File
	if cmd.global.json {
		err = cmd.printJSON(struct {
			Dump dumpFacts `json:"dump"`
			*swap.Swapped
		}{facts, done})
	} else {
		err = cmd.swaps.printSwapped(done, "restored "+words.Clean(facts.File)+" as")
	}
	if err != nil {
		return err
	}
	return done.Degraded()
}

// confirmDump shows what will happen and asks for the database's name.
func (cmd *dumpCommand) confirmDump(ctx context.Context, p swap.Plan, facts dumpFacts) error {
	if cmd.global.yes && (cmd.global.quiet || cmd.global.json) {
		return nil
	}
	noticef(cmd.env, "database %s is to be replaced by the dump %s\n", words.Clean(p.Live), words.Clean(facts.File))
	cmd.before("proof", unknownOrigin+": its values can't be compared with anything")
	cmd.before("file of", p.Since.UTC().Format("2006-01-02 15:04:05Z")+", "+words.Ago(cmd.now(), p.Since))
	if p.LiveExists {
		cmd.before("the old one", "is kept as "+words.Clean(p.Kept)+", to roll back to")
		cmd.before("its sessions", fmt.Sprintf("are ended: %d now", p.Sessions))
	} else {
		cmd.before("the old one", "does not exist: nothing is kept and no safety backup is taken")
	}
	cmd.swaps.printClosed(p)
	if p.SafetySkipped != "" {
		cmd.before("safety backup", "skipped: "+words.OneLine(p.SafetySkipped))
	}
	cmd.swaps.printOutside(p)
	cmd.printGlobals(p.Globals)
	return cmd.confirm(ctx, "Replace database "+words.Clean(p.Live)+"?", p.Live)
}
