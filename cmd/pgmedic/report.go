package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/render/html"
	"github.com/pgmedic/pgmedic/internal/render/prometheus"
	"github.com/pgmedic/pgmedic/internal/render/text"
	"github.com/pgmedic/pgmedic/internal/words"
)

type reportFlags struct {
	format, output, input, failOn, since        string
	save, allDatabases, showLiterals, noHistory bool
	exactBloat, plans                           bool
	interval                                    time.Duration
	sections                                    []string
}

func (a *app) reportCommand() *cobra.Command {
	var flags reportFlags
	cmd := &cobra.Command{
		Use:   "report [DATABASE]",
		Short: "Report on a server's health, with what mends it",
		Long: `Reads one database's server in a read-only transaction, judges what it finds, and
prints the findings with the statement that mends each, then the numbers, and what
the store knows of the database's backups. Nothing is installed on the server and
nothing is changed. What it reads is kept in a file on this machine, report.history,
and compared with what earlier reports read. What could not be read is listed, with
the reason. In a folder the report's name is performance_report_ and the time in UTC.`,
		Example: `  pgmedic report
  pgmedic report --json > today.json && pgmedic report --input today.json
  pgmedic report --output health.txt
  pgmedic report --format html -o health.html   # one page to mail
  pgmedic report --save              # into the configured folder
  pgmedic report --fail-on critical  # exit 4 if there is one
  pgmedic report --since 24h         # compare with the reports of the last day
  pgmedic report --interval 10s      # watch for 10 s: rates, and what sessions wait for
  pgmedic report --section locks,connections
  pgmedic report --format prometheus --output /var/lib/node_exporter/pgmedic.prom`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			if flags.interval == 0 && cmd.Flags().Changed("interval") {
				return pgmedic.Errorf(pgmedic.KindUsage, "give a time such as 10s, or leave it out", "--interval 0 watches nothing")
			}
			return a.report(cmd.Context(), args, flags)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.format, "format", "text", "text, html, json or prometheus")
	f.StringSliceVar(&flags.sections, "section", nil, "read, judge and show these sections only, such as locks,connections")
	f.StringVarP(&flags.output, "output", "o", "", "file, or folder, to write to (default: standard output)")
	f.BoolVar(&flags.save, "save", false, "write into the configured folder, report.dir")
	f.StringVar(&flags.input, "input", "", "report on what an earlier --json wrote into this file, and connect to nothing")
	f.Var(durationFlag{&flags.interval}, "interval", "watch the server for so long: counters become rates, and waits are sampled")
	f.BoolVar(&flags.allDatabases, "all-databases", false, "look at the server's other databases too")
	f.BoolVar(&flags.exactBloat, "exact-bloat", false, "measure the bloat of the largest tables and indexes with pgstattuple, which reads much of them")
	f.BoolVar(&flags.plans, "plans", false, "show plans of the statements that take the most time (PostgreSQL 16); nothing is executed")
	f.BoolVar(&flags.showLiterals, "show-literals", false, "show statements with their literals, which can be passwords and people's data")
	f.StringVar(&flags.since, "since", "", "compare with earlier reports since then: 24h, 7d, or 2026-11-20 (default 7d)")
	f.BoolVar(&flags.noHistory, "no-history", false, "neither read nor keep the history of reports")
	f.StringVar(&flags.failOn, "fail-on", "", "warn or critical: exit 3 or 4 if there is such a finding")
	return cmd
}

func (a *app) report(ctx context.Context, args []string, flags reportFlags) error {
	if a.global.json {
		flags.format = "json"
	}
	if !slices.Contains([]string{"text", "html", "json", "prometheus"}, flags.format) {
		return pgmedic.Errorf(pgmedic.KindUsage, "use text, html, json or prometheus", "unknown report format %q", flags.format)
	}
	sections, err := a.reportSections(flags)
	if err != nil {
		return err
	}
	flags.sections = sections
	if flags.save && flags.output != "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--save and --output together")
	}
	if flags.save {
		flags.output = a.cfg.Report.Dir + string(os.PathSeparator)
	}
	if flags.failOn != "" && flags.failOn != "warn" && flags.failOn != "critical" {
		return pgmedic.Errorf(pgmedic.KindUsage, "use warn or critical", "unknown severity %q in --fail-on", flags.failOn)
	}
	if flags.interval < 0 || flags.interval > time.Hour {
		return pgmedic.Errorf(pgmedic.KindUsage, "give a time from 0 to 1h, such as 10s", "--interval %s is out of range", flags.interval)
	}
	// Who reads metrics remembers them.
	flags.noHistory = flags.noHistory || flags.format == "prometheus"
	since, err := a.sinceOf(flags)
	if err != nil {
		return err
	}
	// Of a server that went away midway there is a part of a report, and an error.
	got, gone := a.reading(ctx, args, flags)
	if gone != nil && flags.format == "prometheus" && flags.input == "" {
		return errors.Join(gone, a.writeDown(ctx, args, flags, gone))
	}
	if got == nil || ctx.Err() != nil {
		return gone
	}
	var earlier inspect.Earlier
	if gone == nil {
		if earlier, err = a.remember(ctx, got, args, flags, since); err != nil {
			return err
		}
	}
	findings := judge.Analyse(got, earlier.Judged, a.thresholds())
	report := render.NewReport(a.now(), got, findings, a.mutes()...)
	report.Trends = judge.TrendsOf(got, earlier.Shown, a.thresholds())
	if err := a.writeReport(ctx, report, flags); err != nil {
		return err
	}
	if gone != nil {
		return gone
	}
	return failOn(report.Findings, flags.failOn)
}

// reading looks at the server, or reads a file that an earlier report wrote. There
// are both a reading and an error of a server that went away midway.
func (a *app) reading(ctx context.Context, args []string, flags reportFlags) (*reading.Reading, error) {
	if flags.input != "" {
		got, err := readReading(flags.input)
		if err != nil {
			return nil, err
		}
		return got, got.Narrow(flags.sections)
	}
	named := ""
	if len(args) > 0 {
		named = args[0]
	}
	t, err := a.databaseTarget(named)
	if err != nil {
		return nil, err
	}
	replicas, err := a.replicas()
	if err != nil {
		return nil, err
	}
	return inspect.Server(ctx, inspect.Options{
		Target: t, AllDatabases: flags.allDatabases, Replicas: replicas,
		Collect: collect.Options{
			Now: a.now, Logger: a.log, Interval: flags.interval, ShowLiterals: flags.showLiterals,
			ExactBloat: flags.exactBloat, Plans: flags.plans,
			Sections: flags.sections, Numbers: flags.format == "prometheus",
		},
		Host:    inspect.Stated{MemoryMB: a.cfg.Report.ServerMemoryMB, DiskMB: a.cfg.Report.ServerDiskMB},
		Backups: inspect.Backups{Missing: a.missingStore(), Server: a.cfg.Server, List: a.listBackups},
	})
}

// missingStore says why there is no store of backups, if there is none.
func (a *app) missingStore() string {
	place := a.cfg.Backup.Place()
	if place.Dir == "" {
		return ""
	}
	// Opening the store would make the folder.
	if _, err := os.Stat(place.Dir); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if !a.cfg.Origin("backup.dir").Given() && !a.cfg.Origin("backup.store").Given() {
		return "none is configured, and there is no folder " + place.Dir + ": name it with --store, backup.dir or backup.store"
	}
	return "there is no folder of backups " + place.Dir
}

func (a *app) listBackups(ctx context.Context, f catalog.Filter) (catalog.Listing, error) {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return catalog.Listing{}, err
	}
	defer closed()
	return c.List(ctx, a.trusting(f))
}

// mutes are those of the configuration.
func (a *app) mutes() []judge.Mute {
	var all []judge.Mute
	for _, m := range a.cfg.Report.Mute {
		all = append(all, judge.Mute{ID: m.Finding, Object: m.Object, Reason: m.Reason, Until: m.Until})
	}
	return all
}

// longestReading bounds what is read for one; those of 10,000 tables and all
// databases take some MiB.
const longestReading = 128 << 20

// readReading reads what `pgmedic report --json` wrote, or the reading in it
// alone.
func readReading(path string) (*reading.Reading, error) {
	const hint = "give a file that `pgmedic report --json` wrote"
	file, err := os.Open(path)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, hint, "read the reading: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, longestReading+1))
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, hint, "read the reading: %w", err)
	}
	if len(data) > longestReading {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, hint, "%s: it has more than %s, and no reading has", path, words.Bytes(longestReading))
	}
	var report struct {
		Reading json.RawMessage `json:"reading"`
	}
	// What is no report is a reading, or is refused as one.
	if json.Unmarshal(data, &report) == nil && len(report.Reading) > 0 {
		data = report.Reading
	}
	got, err := reading.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// Any JSON with a format could be one; an empty reading would look healthy.
	if got.TakenAt.IsZero() || got.Server.VersionNum == 0 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, hint, "%s: it is not a reading of a server", path)
	}
	return got, nil
}

func (a *app) thresholds() reading.Thresholds {
	t, c := reading.DefaultThresholds(), a.cfg.Report.Thresholds
	t.ConnectionsWarnPercent, t.ConnectionsCriticalPercent = c.ConnectionsWarnPercent, c.ConnectionsCriticalPercent
	t.DeadTuplesPercent = c.DeadTuplesWarnPercent
	t.CacheWarnPercent, t.CacheCriticalPercent = c.CacheHitWarnPercent, c.CacheHitCriticalPercent
	t.IdleInTransaction = c.IdleInTransactionWarn
	t.BackupAge, t.ProvenAge = c.BackupAgeWarn, c.ProvenAgeWarn
	t.LongTransaction = c.LongTransactionWarn
	t.LockWaitWarn, t.LockWaitCritical = c.LockWaitWarn, c.LockWaitCritical
	t.LagWarn, t.LagCritical = c.ReplicationLagWarn, c.ReplicationLagCritical
	t.LimitInfoPercent, t.LimitWarnPercent, t.LimitCriticalPercent = c.LimitInfoPercent, c.LimitWarnPercent, c.LimitCriticalPercent
	t.BloatPercent, t.RollbackPercent = c.BloatWarnPercent, c.RollbackWarnPercent
	t.SlowStatement, t.StatementSharePercent = c.SlowStatementWarn, c.StatementShareWarnPercent
	t.UnusedIndexAge = c.UnusedIndexAge
	t.DiskWarnPercent, t.DiskCriticalPercent = c.DiskWarnPercent, c.DiskCriticalPercent
	t.KeepDisplaced = a.cfg.Restore.KeepDisplaced
	t.DiskFullWarn, t.DiskFullCritical = c.DiskFullWarn, c.DiskFullCritical
	return t
}

func (a *app) writeReport(ctx context.Context, report render.Report, flags reportFlags) error {
	var b bytes.Buffer
	var err error
	switch flags.format {
	case "json":
		err = render.JSON(&b, report)
	case "html":
		err = html.Write(&b, report, html.Options{Explain: explanation})
	case "prometheus":
		err = prometheus.Write(&b, report, a.metricsOptions(flags))
	default:
		err = text.Write(&b, report, a.textOptions(flags.output == ""))
	}
	if err != nil {
		return err
	}
	text := b.Bytes()
	if flags.format == "json" {
		text = words.JSON(text)
	}
	return a.deliverReport(ctx, text, flags)
}

// deliverReport prints a report or writes it to where the flags say.
func (a *app) deliverReport(ctx context.Context, text []byte, flags reportFlags) error {
	if flags.output == "" {
		if _, err := a.rawOut.Write(text); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
		return nil
	}
	path, err := a.reportPath(flags)
	if err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if flags.format == "prometheus" {
		// Who reads metrics runs as another user.
		mode = 0o644
	}
	if err := writeFile(ctx, path, text, mode); err != nil {
		return err
	}
	a.printf("%s\n", path)
	return nil
}

// textOptions fit a report to the terminal, if it is for one.
func (a *app) textOptions(printed bool) text.Options {
	if !printed || !a.stdoutTTY {
		return text.Options{}
	}
	// Prose is hard to read in lines of any length.
	return text.Options{Width: min(a.stdoutWidth(), 100), Color: a.paint(true).on}
}

// reportPath is the file that a report is written to: the one named, or one
// with the time in its name in the folder that is named or configured.
func (a *app) reportPath(flags reportFlags) (string, error) {
	path := flags.output
	folder := os.IsPathSeparator(path[len(path)-1])
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.dir, path)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		folder = true
	}
	if !folder {
		return path, nil
	}
	if err := os.MkdirAll(path, 0o750); err != nil {
		return "", pgmedic.Errorf(pgmedic.KindUnreachable, "", "make the folder for reports: %w", err)
	}
	extension := map[string]string{"text": "txt", "html": "html", "json": "json", "prometheus": "prom"}[flags.format]
	return filepath.Join(path, "performance_report_"+a.now().UTC().Format("20060102T150405Z")+"."+extension), nil
}

// writeFile writes a file whole or not at all: who reads it meanwhile, and who
// finds it after a kill, has the old one or the new one.
func writeFile(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pgmedic-*")
	if err == nil {
		failpoint.Hit(ctx, "report-begun")
		_, err = f.Write(data)
		err = errors.Join(err, f.Chmod(mode), f.Close())
		failpoint.Hit(ctx, "report-written")
		if err == nil {
			err = os.Rename(f.Name(), path)
		}
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "", "write %s: %w", path, pathErr.Err)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// failOn turns findings of at least the named severity into an exit code.
func failOn(findings []pgmedic.Finding, least string) error {
	worst := 0
	for _, f := range findings {
		worst = max(worst, f.Severity.Rank())
	}
	switch {
	case least == "" || worst < pgmedic.Severity(least).Rank():
		return nil
	case worst >= pgmedic.SeverityCritical.Rank():
		return &statusError{code: 4}
	}
	return &statusError{code: 3}
}
