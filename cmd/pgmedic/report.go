package main

import (
	"bytes"
	"cmp"
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
	"github.com/pgmedic/pgmedic/internal/cleanup"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/poolstate"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/render/html"
	"github.com/pgmedic/pgmedic/internal/render/prometheus"
	"github.com/pgmedic/pgmedic/internal/render/text"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

type reportFlags struct {
	format, output, input, failOn, since        string
	save, allDatabases, showLiterals, noHistory bool
	exactBloat, plans, notify, digest           bool
	interval, watch                             time.Duration
	watchState                                  string
	sections, pools                             []string
}

// reportCommand reports on a server's health.
type reportCommand struct {
	job
	servers servers
	stores  stores
	keys    keyring
	// sources are where services describe their pools.
	sources []poolstate.Source
	unread  unread

	args  []string
	flags reportFlags
	// list lists the backups in the store; nil is listBackups.
	list listing
}

// listing lists the backups that match a filter.
type listing func(context.Context, catalog.Filter) (catalog.Listing, error)

func reportCLI(e *env) *cobra.Command {
	var flags reportFlags
	cmd := &cobra.Command{
		Use:   "report [DATABASE]",
		Short: "Report on a server's health, with a fix for each finding",
		Long: `Reads one database's server in a read-only transaction and prints findings, each
with the statement that fixes it, then the numbers, and what the store has on the
database's backups. It installs nothing on the server and changes nothing there. It
keeps its readings in a file on this machine, report.history, and compares them with
those of earlier reports. Anything that it could not read is listed with the reason.
In a folder the report is named performance_report_ and the time in UTC.
With --watch it repeats the report, and prints what fires, gets worse and is resolved.`,
		Example: `  pgmedic report
  pgmedic report --json > today.json && pgmedic report --input today.json
  pgmedic report --output health.txt
  pgmedic report --format html -o health.html   # one page to mail
  pgmedic report --save              # into the configured folder
  pgmedic report --fail-on critical  # exit 4 if there is one
  pgmedic report --since 24h         # compare with the reports of the last day
  pgmedic report --watch 30s         # print changes as they come, until Ctrl-C
  pgmedic report --watch 1m --notify # send them to the configured channels, too
  pgmedic report --save --notify --digest   # every week: one message even if nothing is new
  pgmedic report --interval 10s      # watch for 10 s: rates, and what sessions wait for
  pgmedic report --section locks,connections
  pgmedic report --pool http://clinic:8080/debug/pool   # who waits for a connection
  pgmedic report --format prometheus --output /var/lib/node_exporter/pgmedic.prom`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			report := func(ctx context.Context, j job) error {
				if err := flags.checkTimes(cmd.Flags().Changed); err != nil {
					return err
				}
				command := &reportCommand{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}, args: args, flags: flags}
				return command.run(ctx)
			}
			if flags.digest && (!flags.notify || flags.watch != 0) {
				return pgmedic.Errorf(pgmedic.KindUsage, "add --notify; a watch sends the digests of notifications.digest", "--digest is for a single report with --notify")
			}
			if flags.notify {
				return e.notified(cmd, flags.jobName(), report)
			}
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			return report(cmd.Context(), j)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.format, "format", "text", "text, html, json or prometheus")
	f.StringSliceVar(&flags.sections, "section", nil, "report on these sections only, such as locks,connections")
	f.StringVarP(&flags.output, "output", "o", "", "file, or folder, to write to (default: standard output)")
	f.BoolVar(&flags.save, "save", false, "write into the configured folder, report.dir")
	f.StringVar(&flags.input, "input", "", "report on what an earlier --json wrote into this file, and connect to nothing")
	f.StringArrayVar(&flags.pools, "pool", nil, "URL or file where a service describes its connection pool, to show who waits and for which statement; repeat it for each service")
	f.Var(durationFlag{&flags.interval}, "interval", "watch the server for this long: print rates instead of counters, and sample waits")
	f.BoolVar(&flags.allDatabases, "all-databases", false, "report on the server's other databases, too")
	f.BoolVar(&flags.exactBloat, "exact-bloat", false, "measure the bloat of the largest tables and indexes with pgstattuple, which reads large parts of them")
	f.BoolVar(&flags.plans, "plans", false, "show plans of the statements that take the most time (PostgreSQL 16); nothing is executed")
	f.BoolVar(&flags.showLiterals, "show-literals", false, "show statements with their literals, which can be passwords and people's data")
	f.StringVar(&flags.since, "since", "", "compare with earlier reports since then: 24h, 7d, or 2026-11-20 (default 7d)")
	f.BoolVar(&flags.noHistory, "no-history", false, "neither read nor keep the history of reports")
	f.Var(durationFlag{&flags.watch}, "watch", "look again after this time (5s to 1h), until interrupted, and print what fires, gets worse and is resolved; --json prints lines of JSON")
	f.StringVar(&flags.watchState, "watch-state", "", "with --watch: file that keeps what was reported (default: alerts-….json beside the history)")
	f.BoolVar(&flags.notify, "notify", false, "send findings that are new, worse or gone since the last report with --notify to the configured channels; with --watch, what it prints")
	f.BoolVar(&flags.digest, "digest", false, "with --notify: also send a digest, a summary of all databases and open problems, whether one is due or not")
	f.StringVar(&flags.failOn, "fail-on", "", "warn or critical: exit 3 or 4 if there is such a finding")
	return cmd
}

// jobName is what a report that notifies is in messages.
func (f reportFlags) jobName() string {
	if f.watch != 0 {
		return watchJob
	}
	return "report"
}

// checkTimes refuses times of which nothing would come; changed tells the flags that were given.
func (f reportFlags) checkTimes(changed func(flag string) bool) error {
	if f.interval == 0 && changed("interval") {
		return pgmedic.Errorf(pgmedic.KindUsage, "give a time such as 10s, or leave it out", "--interval is 0, and two readings need time between them")
	}
	if f.watch == 0 && (changed("watch") || f.watchState != "") {
		return pgmedic.Errorf(pgmedic.KindUsage, "give a time from 5s to 1h, such as --watch 30s", "--watch is 0 or missing, and --watch-state is for --watch")
	}
	return nil
}

func (cmd *reportCommand) run(ctx context.Context) error {
	if cmd.global.json {
		cmd.flags.format = "json"
	}
	if !slices.Contains([]string{"text", "html", "json", "prometheus"}, cmd.flags.format) {
		return pgmedic.Errorf(pgmedic.KindUsage, "use text, html, json or prometheus", "unknown report format %q", cmd.flags.format)
	}
	sections, err := cmd.reportSections()
	if err != nil {
		return err
	}
	cmd.flags.sections = sections
	if cmd.sources, err = cmd.pools(ctx); err != nil {
		return err
	}
	if cmd.flags.watch != 0 {
		return cmd.watch(ctx)
	}
	if cmd.flags.save && cmd.flags.output != "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--save and --output together")
	}
	if cmd.flags.save {
		cmd.flags.output = cmd.cfg.Report.Dir + string(os.PathSeparator)
	}
	if cmd.flags.failOn != "" && cmd.flags.failOn != "warn" && cmd.flags.failOn != "critical" {
		return pgmedic.Errorf(pgmedic.KindUsage, "use warn or critical", "unknown severity %q in --fail-on", cmd.flags.failOn)
	}
	if cmd.flags.interval < 0 || cmd.flags.interval > time.Hour {
		return pgmedic.Errorf(pgmedic.KindUsage, "give a time from 0 to 1h, such as 10s", "--interval %s is out of range", cmd.flags.interval)
	}
	// Who reads metrics remembers them.
	cmd.flags.noHistory = cmd.flags.noHistory || cmd.flags.format == "prometheus"
	since, err := cmd.sinceOf()
	if err == nil {
		err = cmd.checkNotify(ctx)
	}
	if err != nil {
		return err
	}
	// Of a server that went away midway there is a part of a report, and an error.
	got, gone := cmd.reading(ctx)
	if gone != nil && cmd.flags.format == "prometheus" && cmd.flags.input == "" {
		return errors.Join(gone, cmd.writeDown(ctx, gone))
	}
	if got == nil || ctx.Err() != nil {
		return gone
	}
	var earlier inspect.Earlier
	if gone == nil {
		if earlier, err = cmd.remember(ctx, got, since); err != nil {
			return err
		}
	}
	findings := judge.Analyse(got, earlier.Judged, cmd.thresholds())
	report := render.NewReport(cmd.now(), got, findings, cmd.mutes()...)
	report.Trends = judge.TrendsOf(got, earlier.Shown, cmd.thresholds())
	if err := cmd.writeReport(ctx, report); err != nil {
		return err
	}
	if gone != nil {
		return gone
	}
	if err := cmd.notifyFindings(ctx, report); err != nil {
		return err
	}
	return cmp.Or(failOn(report.Findings, cmd.flags.failOn), cmd.unread.err())
}

// reading looks at the server, or reads a file that an earlier report wrote. There
// are both a reading and an error of a server that went away midway.
func (cmd *reportCommand) reading(ctx context.Context) (*reading.Reading, error) {
	if cmd.flags.input != "" {
		got, err := readReading(cmd.flags.input)
		if err != nil {
			return nil, err
		}
		return got, got.Narrow(cmd.flags.sections)
	}
	named := ""
	if len(cmd.args) > 0 {
		named = cmd.args[0]
	}
	t, err := cmd.servers.databaseTarget(named)
	if err != nil {
		return nil, err
	}
	replicas, err := cmd.servers.replicas()
	if err != nil {
		return nil, err
	}
	return inspect.Server(ctx, inspect.Options{
		Target: t, AllDatabases: cmd.flags.allDatabases, Replicas: replicas,
		Collect: collect.Options{
			Now: cmd.now, Logger: cmd.log, Interval: cmd.flags.interval, ShowLiterals: cmd.flags.showLiterals,
			ExactBloat: cmd.flags.exactBloat, Plans: cmd.flags.plans,
			Sections: cmd.flags.sections, Numbers: cmd.flags.format == "prometheus",
		},
		Pools:   cmd.sources,
		Unread:  cmd.unread.add,
		Host:    inspect.Stated{MemoryMB: cmd.cfg.Report.ServerMemoryMB, DiskMB: cmd.cfg.Report.ServerDiskMB},
		Backups: inspect.Backups{Missing: cmd.missingStore(), Server: cmd.cfg.Server, List: cmd.lists(), Recovery: cmd.recovery},
	})
}

// missingStore says why there is no store of backups, if there is none.
func (cmd *reportCommand) missingStore() string {
	place := cmd.cfg.Backup.Place()
	if place.Dir == "" {
		return ""
	}
	// Opening the store would make the folder.
	if _, err := os.Stat(place.Dir); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if !cmd.storeGiven() {
		return "none is configured, and there is no folder " + place.Dir + ": name it with --store, backup.dir or backup.store"
	}
	return "there is no folder of backups " + place.Dir
}

// storeGiven reports whether a store of backups is configured.
func (cmd *reportCommand) storeGiven() bool {
	return cmd.cfg.Origin("backup.dir").Given() || cmd.cfg.Origin("backup.store").Given()
}

func (cmd *reportCommand) lists() listing {
	if cmd.list != nil {
		return cmd.list
	}
	return cmd.listBackups
}

func (cmd *reportCommand) listBackups(ctx context.Context, f catalog.Filter) (catalog.Listing, error) {
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return catalog.Listing{}, err
	}
	defer closed()
	return c.List(ctx, cmd.keys.trusting(f))
}

// mutes are those of the configuration.
func (cmd *reportCommand) mutes() []judge.Mute {
	var all []judge.Mute
	for _, m := range cmd.cfg.Report.Mute {
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
	// What is not a report is a reading, or is refused as one.
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

func (cmd *reportCommand) thresholds() reading.Thresholds {
	t, c := reading.DefaultThresholds(), cmd.cfg.Report.Thresholds
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
	t.KeepDisplaced = cmd.cfg.Restore.KeepDisplaced
	t.DiskFullWarn, t.DiskFullCritical = c.DiskFullWarn, c.DiskFullCritical
	return t
}

func (cmd *reportCommand) writeReport(ctx context.Context, report render.Report) error {
	var b bytes.Buffer
	var err error
	switch cmd.flags.format {
	case "json":
		err = render.JSON(&b, report)
	case "html":
		err = html.Write(&b, report, html.Options{Explain: explanation})
	case "prometheus":
		err = prometheus.Write(&b, report, cmd.metricsOptions())
	default:
		err = text.Write(&b, report, cmd.textOptions(cmd.flags.output == ""))
	}
	if err != nil {
		return err
	}
	text := b.Bytes()
	if cmd.flags.format == "json" {
		text = words.JSON(text)
	}
	return cmd.deliverReport(ctx, text)
}

// deliverReport prints a report or writes it to where the flags say.
func (cmd *reportCommand) deliverReport(ctx context.Context, text []byte) error {
	if cmd.flags.output == "" {
		if _, err := cmd.rawOut.Write(text); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
		return nil
	}
	path, err := cmd.reportPath()
	if err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if cmd.flags.format == "prometheus" {
		// Who reads metrics runs as another user.
		mode = 0o644
	}
	if err := writeFile(ctx, path, text, mode); err != nil {
		return err
	}
	cmd.printf("%s\n", path)
	return nil
}

// textOptions fit a report to the terminal, if it is for one.
func (e *env) textOptions(printed bool) text.Options {
	if !printed || !e.stdoutTTY {
		return text.Options{}
	}
	// Prose is hard to read in lines of any length.
	return text.Options{Width: min(e.stdoutWidth(), 100), Color: e.paint(true).on}
}

// reportPath is the file that a report is written to: the one named, or one
// with the time in its name in the folder that is named or configured.
func (cmd *reportCommand) reportPath() (string, error) {
	path := cmd.flags.output
	folder := os.IsPathSeparator(path[len(path)-1])
	if !filepath.IsAbs(path) {
		path = filepath.Join(cmd.dir, path)
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
	extension := map[string]string{"text": "txt", "html": "html", "json": "json", "prometheus": "prom"}[cmd.flags.format]
	return filepath.Join(path, cleanup.ReportName(cmd.now(), extension)), nil
}

// writeFile writes a file whole or not at all: who reads it meanwhile, and who
// finds it after a kill, has the old one or the new one.
func writeFile(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), store.TempPrefix+"*")
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
