package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/words"
)

// physicalFlags are those of backup --method physical.
type physicalFlags struct {
	checkpoint string
	maxRate    rateFlag
	newCluster bool
	incremental
}

// add adds the flags to the command.
func (f *physicalFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.checkpoint, "checkpoint", "fast", "physical: take the checkpoint that it begins with at once (fast), or at the server's own pace (spread)")
	flags.Var(&f.maxRate, "max-rate", "physical: most bytes a second that the server sends, such as 50M (default: no limit)")
	flags.BoolVar(&f.newCluster, "new-cluster", false, "physical: the server is another cluster than that of the last backup, and was replaced on purpose")
	addSetting(cmd, "reader", "backup.reader", "physical: stream, as the server sends a base backup, or sql, which reads the files by functions over --jobs connections")
	f.incremental.add(cmd)
}

// names are the flags' names.
func (f *physicalFlags) names() []string {
	return []string{"checkpoint", "max-rate", "new-cluster", "reader", "incremental", "max-chain"}
}

// check refuses flags that the method does not heed.
func (f *physicalFlags) check(cmd *cobra.Command, method string) error {
	if method == string(pgmedic.MethodPhysical) {
		if f.checkpoint != "fast" && f.checkpoint != "spread" {
			return pgmedic.Errorf(pgmedic.KindUsage, "use fast or spread", "--checkpoint: %q is not known", shorten(f.checkpoint))
		}
		return f.incremental.check(cmd)
	}
	for _, name := range f.names() {
		if cmd.Flags().Changed(name) {
			return pgmedic.Errorf(pgmedic.KindUsage, "add --method physical, or leave it out", "--%s is for physical backups only", name)
		}
	}
	return nil
}

// readerSQL is the value of backup.reader that has files read by SQL.
const readerSQL = "sql"

// rateFlag is a flag for bytes a second, as pg_basebackup takes it, but in bytes where there
// is no unit.
type rateFlag int64

func (f *rateFlag) Set(text string) error {
	digits, unit := text, int64(1)
	for suffix, bytes := range map[string]int64{"k": 1 << 10, "M": 1 << 20, "G": 1 << 30} {
		if before, ok := strings.CutSuffix(text, suffix); ok {
			digits, unit = before, bytes
		}
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 || n*unit != 0 && (n*unit < replication.MinBackupRate || n*unit > replication.MaxBackupRate) {
		return strconv.ErrRange
	}
	*f = rateFlag(n * unit)
	return nil
}

// String is empty for zero, so that help shows no default.
func (f *rateFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*f), 10)
}

func (f *rateFlag) Type() string { return "rate" }

// physical takes a base backup of the server.
func (cmd *backupCommand) physical(ctx context.Context, labels map[string]string, how sealing) error {
	if err := cmd.refusesLogical(); err != nil {
		return err
	}
	target, err := cmd.servers.target()
	if err != nil {
		return err
	}
	cmd.trail.about(act{params: map[string]string{"method": string(pgmedic.MethodPhysical)}})
	c, closed, err := cmd.stores.makeCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	o := physical.Options{
		Target: target, Maintenance: cmd.cfg.Database.MaintenanceDatabase, ServerName: cmd.cfg.Server, Catalog: c,
		Seal: how.options, Wraps: how.wraps, Signer: how.signer, Labels: labels, Workers: cmd.cfg.Backup.Jobs,
		Spread: cmd.flags.physical.checkpoint == "spread", MaxRate: int64(cmd.flags.physical.maxRate), NewCluster: cmd.flags.physical.newCluster, BySQL: cmd.cfg.Backup.Reader == readerSQL,
		MaxDuration: cmd.cfg.Backup.MaxDuration, Host: hostName(), Version: cmd.version, Logger: cmd.log, Now: cmd.now,
	}
	var kept *keptManifests
	o.Incremental, kept = cmd.incremental(c)
	listen, done := cmd.progress()
	o.Progress = listen
	b, err := physical.Take(ctx, o)
	done()
	if err != nil {
		cmd.keepManifest(kept, "")
		cmd.outcomes.add(outcome{err: err})
		return err
	}
	cmd.keepManifest(kept, b.ID)
	if !cmd.global.json {
		cmd.printPhysical(b, c)
	}
	cmd.trail.aboutBackup(b)
	row := rowOf(catalog.Entry{Backup: b, Keys: len(o.Wraps)})
	var problem error
	if row.Copies, err = cmd.copier.copyTaken(ctx, c, b); err != nil {
		problem = err
	}
	problem = worse(problem, uncleanError(b))
	cmd.outcomes.add(outcome{backup: b.ID, err: problem})
	pruned, err := cmd.pruneAfterBackup(ctx, []backupRow{row})
	problem = worse(problem, err)
	if cmd.global.json {
		result := map[string]any{"backups": []backupRow{row}, "failed": []backupFailure{}}
		if pruned != nil {
			result["pruned"] = pruned.orEmpty()
		}
		if err := cmd.printJSON(result); err != nil {
			return err
		}
	}
	return problem
}

// refusesLogical refuses what a backup of a whole cluster can't heed.
func (cmd *backupCommand) refusesLogical() error {
	what := ""
	switch {
	case len(cmd.args) > 0:
		what = "names of databases"
	case cmd.cfg.Backup.AllDatabases && cmd.cfg.Origin("backup.all_databases").Source == config.SourceFlag:
		what = "--all-databases"
	case !cmd.patterns().Empty():
		what = "patterns of tables and schemas"
	case cmd.cfg.Origin("backup.lock_timeout").Source == config.SourceFlag:
		what = "--lock-timeout"
	}
	if what == "" {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "leave one of them out; --method parallel takes single databases and tables", "--method physical together with %s: a physical backup is of all databases of the server, without locks on tables", what)
}

// uncleanError is what the run ends with where pages are wrong.
func uncleanError(b *pgmedic.Backup) error {
	if b.Clean() {
		return nil
	}
	p := b.Physical
	var first []string
	for _, e := range p.PageErrors[:min(len(p.PageErrors), 5)] {
		first = append(first, fmt.Sprintf("block %d of %s", e.Block, words.Clean(e.Path)))
	}
	if p.BadPages > int64(len(first)) {
		first = append(first, "…")
	}
	hint := "keep an older backup; find out what the files belong to: SELECT pg_catalog.pg_filenode_relation(tablespace, number); `pgmedic show " + b.ID + "` lists them"
	return pgmedic.Errorf(pgmedic.KindDegraded, hint, "backup %s is stored; damaged on the server (%s): %s", b.ID, words.Plural(int(p.BadPages), "page"), strings.Join(first, ", "))
}

func (cmd *backupCommand) printPhysical(b *pgmedic.Backup, c *catalog.Catalog) {
	if cmd.global.quiet {
		cmd.printf("%s\n", b.ID)
		return
	}
	cmd.printf("%s all databases of %s in %s\n", cmd.paint(cmd.stdoutTTY).good("backed up"), words.Clean(b.Server.Name), words.Duration(b.FinishedAt.Sub(b.StartedAt)))
	cmd.fields(slices.Concat([]string{"id", b.ID, "kind", kindWords(b), "size", sizeWords(b)}, physicalFields(b), []string{"in", location(c), "next", "pgmedic verify " + b.ID})...)
}

// physicalFields say what a physical backup is, for show and for who has taken one.
func physicalFields(b *pgmedic.Backup) []string {
	p := b.Physical
	if p == nil {
		return nil
	}
	pages := pgmedic.Count(p.PagesChecked) + " pages checked by their checksums, all right"
	if !p.Checksums {
		pages = pgmedic.Count(p.PagesChecked) + " pages checked by their headers alone: the cluster has no checksums"
	}
	if p.BadPages > 0 {
		named := []string{fmt.Sprintf("%s of %s are damaged", pgmedic.Count(p.BadPages), words.Plural(int(p.PagesChecked), "page"))}
		for _, e := range p.PageErrors[:min(len(p.PageErrors), 10)] {
			named = append(named, fmt.Sprintf("block %d of %s (%s)", e.Block, words.Clean(e.Path), e.Why))
		}
		pages = strings.Join(named, "; ")
	}
	wal := fmt.Sprintf("%s to %s, timeline %d, stored beside it", p.StartLSN, p.StopLSN, p.StopTimeline)
	var spaces []string
	for _, t := range p.Tablespaces {
		spaces = append(spaces, fmt.Sprintf("%d at %s", t.OID, words.Clean(t.Location)))
	}
	return []string{"files", pgmedic.Count(p.Files), "pages", pages, "needs WAL", wal, "tablespaces", strings.Join(spaces, "; ")}
}

// refusePhysical refuses a physical backup where only a backup of a database will do.
func refusePhysical(b *pgmedic.Backup, what string) error {
	if b.Method != pgmedic.MethodPhysical {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "name a backup of a database (`pgmedic list`); a physical one is restored into a data folder: docs/point-in-time.md",
		"backup %s is a physical one, of a whole cluster, which can't be used for %s", b.ID, what)
}
