package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/render/text"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

//go:embed clinic.sql
var clinicSQL string

// clinic is the demo's database.
const clinic = "clinic"

type demoFlags struct {
	size string
	keep bool
}

func demoCLI(e *env) *cobra.Command {
	var flags demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show everything on a private server with a sample clinic",
		Long: `Starts a private PostgreSQL from the installed programs, loads a sample clinic,
backs it up, proves the backup, loses data, restores, undoes the restore, and
reports on the server's health. It needs no configuration, uses no network, and
leaves nothing behind.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := demoJob(e)
			if err != nil {
				return err
			}
			command := &demoCommand{job: j, keys: keyring{j}, paint: e.paint(e.stdoutTTY), flags: flags}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&flags.size, "size", "small", "small, medium or large: some 40 MB, 400 MB or 2 GB")
	cmd.Flags().BoolVar(&flags.keep, "keep", false, "keep the server until Ctrl-C, and say how to connect")
	return cmd
}

// demoCommand shows everything on a server of its own.
type demoCommand struct {
	job
	keys  keyring
	paint paint
	flags demoFlags

	how     sealing
	server  *scratch.Server
	catalog *catalog.Catalog
	target  postgres.Target
	result  demoResult
}

// demoResult is the demo's JSON.
type demoResult struct {
	BackupID        string            `json:"backup_id"`
	Proof           pgmedic.Proof     `json:"proof"`
	RecoverySeconds float64           `json:"recovery_seconds"`
	Restore         *swap.Swapped     `json:"restore"`
	Rollback        *swap.Swapped     `json:"rollback"`
	Findings        []pgmedic.Finding `json:"findings"`
}

func (d *demoCommand) run(ctx context.Context) (err error) {
	patients, ok := map[string]string{"small": "5000", "medium": "50000", "large": "250000"}[d.flags.size]
	if !ok {
		return pgmedic.Errorf(pgmedic.KindUsage, "use small, medium or large", "unknown size %q", d.flags.size)
	}
	if d.how, err = d.keys.sealing(ctx); err != nil {
		return err
	}
	server, err := scratch.Start(ctx, scratch.Options{SearchDirs: d.cfg.Postgres.BinDirs, Logger: d.log})
	if err != nil {
		return fmt.Errorf("start a private PostgreSQL: %w", err)
	}
	defer func() {
		if stopErr := server.Stop(context.WithoutCancel(ctx)); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("remove the private PostgreSQL: %w", stopErr))
		}
	}()
	// Inside the server's folder, so that it goes, or is swept, with it.
	s, err := store.NewLocal(store.LocalOptions{Dir: filepath.Join(server.Dir(), "backups"), Logger: d.log})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // only a descriptor
	d.server, d.catalog = server, catalog.New(s)
	if d.target, err = postgres.ParseTarget(server.DSN(clinic)); err != nil {
		return err
	}
	if err := d.tell(ctx, patients); err != nil {
		return err
	}
	if d.flags.keep {
		return d.wait(ctx)
	}
	return nil
}

// demoJob takes nothing from the configuration but where PostgreSQL's programs are.
func demoJob(e *env) (job, error) {
	// A folder without a configuration: the working folder's is
	// for a real database.
	o := config.Options{Dir: string(os.PathSeparator)}
	for _, kv := range e.environ {
		if strings.HasPrefix(kv, "PGMEDIC_POSTGRES_DIRS=") || strings.HasPrefix(kv, "PGMEDIC_LOG_") {
			o.Environ = append(o.Environ, kv)
		}
	}
	cfg, err := config.Load(o)
	if err != nil {
		return job{}, err
	}
	cfg.Server = "demo"
	log, err := e.logger(cfg, cfg.Log)
	return job{env: e, cfg: cfg, log: log}, err
}

// storyColumn is where the story's text begins: number and title come before.
const storyColumn = 16

// headline prints one line of the story.
func (d *demoCommand) headline(n int, title, format string, args ...any) {
	if !d.global.json {
		d.printf("%s  %s %s\n", d.paint.dim(strconv.Itoa(n)), d.paint.bold(fmt.Sprintf("%-12s", title)),
			d.fit(fmt.Sprintf(format, args...), storyColumn))
	}
}

// more prints a further line below a headline.
func (d *demoCommand) more(format string, args ...any) {
	if !d.global.json {
		d.printf("%*s%s\n", storyColumn, "", d.fit(fmt.Sprintf(format, args...), storyColumn))
	}
}

// tell tells the story, step by step.
func (d *demoCommand) tell(ctx context.Context, patients string) error {
	if !d.global.json {
		d.printf("%s\n\n", d.fit("A sample clinic on a private PostgreSQL "+d.server.Version()+
			". Its patients are invented, and it is removed afterwards.", 0))
	}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return d.load(ctx, patients) },
		d.backup, d.drill, d.lose, d.restore, d.undo, d.health,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	if d.global.json {
		return d.printJSON(d.result)
	}
	d.printf("\n%s\n", d.paint.bold("Try it on yours"))
	d.printf("  export DATABASE_URL=postgres://user@host/database\n")
	d.printf("  pgmedic check                       is everything there that a backup needs?\n")
	d.printf("  pgmedic backup                      take one, into ./infrastructure/backups/database\n")
	d.printf("  pgmedic drill latest                prove it\n")
	d.printf("  pgmedic report                      how is the server?\n")
	return nil
}

func (d *demoCommand) load(ctx context.Context, patients string) error {
	admin, err := postgres.Connect(ctx, d.target.WithDatabase("postgres"))
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, admin)
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+clinic); err != nil {
		return postgres.Wrap(err, "create the sample database")
	}
	conn, err := postgres.Connect(ctx, d.target)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	script := "SET search_path = public; SET clinic.patients = " + sqltext.QuoteLiteral(patients) + ";\n" + clinicSQL
	if _, err := conn.PgConn().Exec(ctx, script).ReadAll(); err != nil {
		return postgres.Wrap(err, "load the sample clinic")
	}
	var counts [4]int64
	var size int64
	err = conn.QueryRow(ctx, `
SELECT (SELECT count(*) FROM public.patients), (SELECT count(*) FROM public.encounters),
	(SELECT count(*) FROM public.observations), (SELECT count(*) FROM public.claims),
	pg_catalog.pg_database_size(current_database())`).Scan(&counts[0], &counts[1], &counts[2], &counts[3], &size)
	if err != nil {
		return postgres.Wrap(err, "count the sample clinic")
	}
	d.headline(1, "A database", "%s: %s patients, %s encounters, %s observations, %s claims", words.Bytes(size),
		words.Count(counts[0]), words.Count(counts[1]), words.Count(counts[2]), words.Count(counts[3]))
	return nil
}

func (d *demoCommand) backup(ctx context.Context) error {
	b, err := backup.Take(ctx, d.backupOptions(d.target, d.catalog, d.how))
	if err != nil {
		return err
	}
	d.result.BackupID = b.ID
	d.headline(2, "Backed up", "%s in %s: %s rows, %s stored", d.paint.bold(b.ID), words.Duration(b.FinishedAt.Sub(b.StartedAt)),
		words.Count(b.Rows()), words.Bytes(b.StoredBytes()))
	return nil
}

func (d *demoCommand) drill(ctx context.Context) error {
	e, err := d.catalog.Get(ctx, d.result.BackupID, catalog.Filter{})
	if err != nil {
		return err
	}
	r, err := drill.Run(ctx, d.drillOptions(ctx, d.catalog, e.Backup, nil))
	if err != nil {
		return err
	}
	if err := failedReceipts([]*pgmedic.Receipt{r}, nil); err != nil {
		return err
	}
	d.result.Proof, d.result.RecoverySeconds = r.Proof, r.RecoverySeconds
	d.headline(3, "Proven", "%s: restored into a scratch server and compared; %s to recover", d.paint.good(string(r.Proof)),
		d.paint.bold(secondsWords(r.RecoverySeconds)))
	if !d.global.json {
		d.printChecksAt(storyColumn, r.Checks)
	}
	return nil
}

func (d *demoCommand) lose(ctx context.Context) error {
	if err := d.exec(ctx, "DELETE FROM public.claims"); err != nil {
		return err
	}
	n, err := d.claims(ctx)
	if err != nil {
		return err
	}
	d.headline(4, "A bad day", "DELETE FROM claims, without a WHERE: %s claims left", d.paint.bad(words.Count(n)))
	return nil
}

func (d *demoCommand) restore(ctx context.Context) error {
	e, err := d.catalog.Get(ctx, d.result.BackupID, catalog.Filter{})
	if err != nil {
		return err
	}
	done, err := swap.Replace(ctx, swap.Options{
		Options: d.restoreOptions(d.target, d.catalog, e.Backup, nil), Live: clinic,
		SafetyBackup: func(ctx context.Context) (string, error) {
			o := d.backupOptions(d.target, d.catalog, d.how)
			o.Locked, o.Purpose = true, pgmedic.PurposeSafety
			b, err := backup.Take(ctx, o)
			if err != nil {
				return "", err
			}
			return b.ID, nil
		},
	})
	if err != nil {
		return err
	}
	d.result.Restore = done
	n, err := d.claims(ctx)
	if err != nil {
		return err
	}
	d.headline(5, "Restored", "%s claims are back, in %s: into a new database, compared, then swapped in",
		d.paint.good(words.Count(n)), secondsWords(done.Seconds))
	d.more("clients waited %s; the old database is kept, and was backed up first", secondsWords(done.OutageSeconds))
	return nil
}

// undo rolls the restore back, and forward again.
func (d *demoCommand) undo(ctx context.Context) error {
	o := swap.Options{Options: d.restoreOptions(d.target, d.catalog, nil, nil), Live: clinic}
	back, err := swap.Rollback(ctx, o)
	if err != nil {
		return err
	}
	d.result.Rollback = back
	undone, err := d.claims(ctx)
	if err != nil {
		return err
	}
	if _, err := swap.Rollback(ctx, o); err != nil {
		return err
	}
	again, err := d.claims(ctx)
	if err != nil {
		return err
	}
	d.headline(6, "Undone", "a restore can be taken back: rolled back in %s (%s claims), and forward (%s claims)",
		secondsWords(back.Seconds), words.Count(undone), words.Count(again))
	return nil
}

// morning is a morning's work on a table that is never vacuumed.
const morning = `
UPDATE public.audit_log SET action = 'write' WHERE id % 3 = 0;
DELETE FROM public.audit_log WHERE id % 2 = 0;
ANALYZE public.audit_log`

// mutes silence what is so on purpose: a server that is thrown away needs no
// disk to be waited for.
func (d *demoCommand) mutes() []judge.Mute {
	var all []judge.Mute
	for _, id := range []string{"fsync-off", "full-page-writes-off", "checksums-off"} {
		all = append(all, judge.Mute{ID: id, Reason: "the demo's server is thrown away", Until: d.now().Add(time.Hour)})
	}
	return all
}

func (d *demoCommand) health(ctx context.Context) error {
	if err := d.exec(ctx, morning); err != nil {
		return err
	}
	conn, err := postgres.Connect(ctx, d.target)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	got, err := collect.Collect(ctx, conn, collect.Options{Now: d.now, TopTables: 6, Logger: d.log})
	if err != nil {
		return err
	}
	findings := judge.Analyse(got, nil, reading.DefaultThresholds())
	d.result.Findings = findings
	if d.global.json {
		return nil
	}
	d.headline(7, "Its health", "a morning's work later, as `pgmedic report` prints it:\n")
	return text.Write(d.rawOut, render.NewReport(d.now(), got, findings, d.mutes()...), d.textOptions(true))
}

func (d *demoCommand) exec(ctx context.Context, sql string) error {
	conn, err := postgres.Connect(ctx, d.target)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	_, err = conn.Exec(ctx, sql)
	return postgres.Wrap(err, "change the sample clinic")
}

func (d *demoCommand) claims(ctx context.Context) (n int64, err error) {
	conn, err := postgres.Connect(ctx, d.target)
	if err != nil {
		return 0, err
	}
	defer postgres.Close(ctx, conn)
	err = conn.QueryRow(ctx, "SELECT count(*) FROM public.claims").Scan(&n)
	return n, postgres.Wrap(err, "count the claims")
}

// wait keeps the server until an interrupt.
func (d *demoCommand) wait(ctx context.Context) error {
	fmt.Fprintf(d.stderr, "\nThe server runs until Ctrl-C. In another terminal:\n  export DATABASE_URL=%q\n  export BACKUP_DIR=%s\n  psql \"$DATABASE_URL\"\n",
		d.server.DSN(clinic), filepath.Join(d.server.Dir(), "backups"))
	<-ctx.Done() // the end that was asked for, and no failure
	return nil
}
