package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/maintain"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// maintainedTables is how many tables of a database are considered, by size and by dead
// rows.
const maintainedTables = 200

type maintainFlags struct {
	only   []string
	window time.Duration
	dryRun bool
}

// maintainCommand plans and runs maintenance.
type maintainCommand struct {
	job
	servers servers
	reports reportCommand

	args  []string
	flags maintainFlags
	kinds []maintain.Kind
	plans []*maintain.Plan
	// failed are databases of which nothing could be planned or run.
	failed []failedDatabase
}

func maintainCLI(e *env) *cobra.Command {
	var flags maintainFlags
	cmd := &cobra.Command{
		Use:   "maintain [DATABASE…]",
		Short: "Run VACUUM, ANALYZE and REINDEX CONCURRENTLY where a report finds the need",
		Long: `Prints what would be run and why, and changes nothing unless --yes is given, or the
question is answered on a terminal. The steps come from the findings of a report:
transaction age, statistics that are missing or out of date, dead rows, and indexes of
which more than half was measured to be empty. They are run one at a time, those with the
greatest gain first.

No statement waits longer than 5 s for a lock, and none rewrites a table: VACUUM FULL is
never run. An index is rebuilt only if twice its size is free on the disk, no backup and no
transaction older than a minute works on the database, and no standby is a minute or more
behind. What a REINDEX that failed or was interrupted leaves is dropped. An invalid
index that was there before is reported and left alone.

At the end of --window the running statement is cancelled. The exit code is 15 if a
step was skipped or failed, and 11 if amcheck found a damaged index.`,
		Example: `  pgmedic maintain
  pgmedic maintain --yes --window 2h
  pgmedic maintain --only analyze,vacuum --yes clinic billing`,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			if flags.window <= 0 && cmd.Flags().Changed("window") {
				return pgmedic.Errorf(pgmedic.KindUsage, "give a time such as 2h, or leave it out for no limit", "--window 0 leaves no time")
			}
			command := &maintainCommand{job: j, servers: servers{j}, reports: reportCommand{job: j, servers: servers{j}}, args: args, flags: flags}
			return command.run(cmd.Context())
		},
	}
	addConnection(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&flags.only, "only", nil, "run these kinds of steps only: analyze, vacuum, reindex, amcheck (default: the first three)")
	f.Var(durationFlag{&flags.window}, "window", "stop after this time, such as 2h: the running statement is cancelled")
	f.BoolVar(&flags.dryRun, "dry-run", false, "show the plan, and change nothing, whatever --yes says")
	return cmd
}

// failedDatabase is a database that could not be maintained.
type failedDatabase struct {
	Database string `json:"database"`
	Error    string `json:"error"`
}

// maintained is one database under maintenance.
type maintained struct {
	session *maintain.Session
	plan    *maintain.Plan
	reading *reading.Reading
}

func (cmd *maintainCommand) run(ctx context.Context) error {
	var err error
	if cmd.kinds, err = maintain.ParseKinds(cmd.flags.only); err != nil {
		return err
	}
	names := cmd.args
	if len(names) == 0 {
		names = []string{""}
	}
	began := cmd.now()
	var all []*maintained
	defer func() {
		for _, m := range all {
			m.session.Close(ctx)
		}
	}()
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		m, err := cmd.plan(ctx, name)
		if err != nil {
			if len(names) == 1 || ctx.Err() != nil {
				return err
			}
			cmd.failed = append(cmd.failed, failedDatabase{Database: name, Error: words.OneLine(err.Error())})
			continue
		}
		all, cmd.plans = append(all, m), append(cmd.plans, m.plan)
	}
	shown, ran, err := cmd.carryOut(ctx, all, began)
	if err == nil || !shown {
		if printErr := cmd.print(shown, ran); err == nil {
			err = printErr
		}
	}
	if err != nil {
		return err
	}
	return cmd.verdict(ran)
}

// plan connects to a database, reads it and plans for it.
func (cmd *maintainCommand) plan(ctx context.Context, name string) (_ *maintained, err error) {
	t, err := cmd.servers.databaseTarget(name)
	if err != nil {
		return nil, err
	}
	session, err := maintain.Open(ctx, t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			session.Close(ctx)
		}
	}()
	sections := []string{
		reading.SectionOverview, reading.SectionReplication, reading.SectionLimits, reading.SectionTables, reading.SectionIndexes, reading.SectionSize,
	}
	got, err := inspect.Server(ctx, inspect.Options{
		Target: t, Host: cmd.stated(),
		Collect: collect.Options{
			Now: cmd.now, Logger: cmd.log, Sections: sections, TopTables: maintainedTables,
			ExactBloat: slices.Contains(cmd.kinds, maintain.Reindex),
		},
	})
	if err != nil {
		return nil, err
	}
	thresholds := cmd.reports.thresholds()
	findings, _ := judge.Silence(judge.Analyse(got, nil, thresholds), cmd.reports.mutes(), cmd.now())
	facts, err := session.Complete(ctx, maintain.Facts{Reading: got, Findings: findings, Kinds: cmd.kinds, Thresholds: thresholds})
	if err != nil {
		return nil, err
	}
	return &maintained{session: session, plan: maintain.NewPlan(facts), reading: got}, nil
}

// stated is what the configuration states of the server's machine.
func (cmd *maintainCommand) stated() inspect.Stated {
	return inspect.Stated{MemoryMB: cmd.cfg.Report.ServerMemoryMB, DiskMB: cmd.cfg.Report.ServerDiskMB}
}

// carryOut asks, and runs the plans. It says whether the plan was shown for the question,
// and whether anything was run.
func (cmd *maintainCommand) carryOut(ctx context.Context, all []*maintained, began time.Time) (shown, ran bool, err error) {
	runnable := 0
	for _, p := range cmd.plans {
		runnable += p.Runnable()
	}
	if cmd.flags.dryRun || !cmd.global.yes && !cmd.stdinTTY {
		cmd.trail.forget()
		return false, false, nil
	}
	if runnable == 0 {
		cmd.trail.nothingToDo()
		return false, true, nil
	}
	if !cmd.global.yes {
		cmd.printPlans()
		if err := cmd.confirm(ctx, "Run these statements?", "maintain"); err != nil {
			return true, false, err
		}
	}
	names := make([]string, 0, len(cmd.plans))
	for _, p := range cmd.plans {
		names = append(names, p.Database)
	}
	cmd.trail.about(act{lists: map[string][]string{"databases": names}})
	if err := cmd.trail.intend(ctx, act{params: map[string]string{"steps": strconv.Itoa(runnable)}}); err != nil {
		return !cmd.global.yes, false, err
	}
	within := ctx
	if cmd.flags.window > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeoutCause(ctx, max(0, cmd.flags.window-cmd.now().Sub(began)), maintain.ErrWindow)
		defer cancel()
	}
	listen, done := cmd.progress()
	defer done()
	for _, m := range all {
		err := m.session.Run(within, m.plan, maintain.Options{
			Event: listen, Logger: cmd.log, Now: cmd.now,
			Disk: func(ctx context.Context, conn *pgx.Conn) (int64, string) {
				return cmd.stated().FreeDisk(ctx, conn, m.reading)
			},
		})
		if ctx.Err() != nil {
			return false, true, err
		}
		if err != nil {
			cmd.failed = append(cmd.failed, failedDatabase{Database: m.plan.Database, Error: words.OneLine(err.Error())})
		}
	}
	return false, true, nil
}

// verdict is the error of a run that did not do all that was planned.
func (cmd *maintainCommand) verdict(ran bool) error {
	undone, damaged, unread := 0, 0, 0
	for _, p := range cmd.plans {
		undone, damaged, unread = undone+p.Undone(), damaged+p.Damaged(), unread+len(p.Unread)
	}
	if !ran {
		undone = unread
	}
	switch {
	case damaged > 0:
		return pgmedic.Errorf(pgmedic.KindIntegrity, "keep a copy of the data directory, then rebuild the indexes with REINDEX, and look for the cause: memory, disk, or a changed collation",
			"%s damaged", isAre(damaged, "index", "indexes"))
	case len(cmd.failed) > 0:
		return pgmedic.Errorf(pgmedic.KindDegraded, "see what is said of each", "%s not maintained", isAre(len(cmd.failed), "database", "databases"))
	case undone > 0 && !ran:
		return pgmedic.Errorf(pgmedic.KindDegraded, "see what is said of each", "%s not read, and not planned for", wasWere(undone, "part", "parts"))
	case undone > 0:
		return pgmedic.Errorf(pgmedic.KindDegraded, "see what is said of each", "%s not done", wasWere(undone, "step", "steps"))
	}
	return nil
}

func isAre(n int, one, many string) string   { return numbered(n, one, many, "is", "are") }
func wasWere(n int, one, many string) string { return numbered(n, one, many, "was", "were") }

func numbered(n int, one, many, verb, verbs string) string {
	if n == 1 {
		return "1 " + one + " " + verb
	}
	return fmt.Sprintf("%s %s %s", words.Count(int64(n)), many, verbs)
}

// maintainResult is what maintain prints as JSON.
type maintainResult struct {
	// Ran is true where the plans were carried out.
	Ran       bool             `json:"ran"`
	Databases []*maintain.Plan `json:"databases"`
	Failed    []failedDatabase `json:"failed"`
}

// print prints what was done, or the plan where nothing was.
func (cmd *maintainCommand) print(shown, ran bool) error {
	switch {
	case cmd.global.json:
		return cmd.printJSON(maintainResult{Ran: ran, Databases: orEmpty(cmd.plans), Failed: orEmpty(cmd.failed)})
	case cmd.global.quiet:
		cmd.printQuiet()
		return nil
	case !shown:
		cmd.printPlans()
	}
	for _, p := range cmd.plans {
		if !ran && p.Runnable() > 0 {
			if !cmd.flags.dryRun {
				cmd.wrapf("nothing was changed; --yes does it\n")
			}
			break
		}
	}
	return nil
}

// printQuiet prints what was run, and what was not, to standard error.
func (cmd *maintainCommand) printQuiet() {
	for _, p := range cmd.plans {
		for i := range p.Steps {
			s := &p.Steps[i]
			if s.Outcome == maintain.Done {
				cmd.printf("%s\n", words.Clean(s.Statement))
			} else if s.Outcome != maintain.Planned {
				fmt.Fprintf(cmd.stderr, "%s: %s %s: %s\n", words.Clean(p.Database), s.Outcome, words.Clean(s.Object), words.OneLine(s.Detail))
			}
		}
		for _, u := range p.Unread {
			fmt.Fprintf(cmd.stderr, "%s: not read: %s\n", words.Clean(p.Database), words.OneLine(u))
		}
	}
	for _, f := range cmd.failed {
		fmt.Fprintf(cmd.stderr, "%s: %s\n", words.Clean(f.Database), words.OneLine(f.Error))
	}
}

// printPlans prints each database's steps, and what was found beside them.
func (cmd *maintainCommand) printPlans() {
	paint := cmd.paint(cmd.stdoutTTY)
	for _, p := range cmd.plans {
		cmd.wrapf("%s  %s\n", paint.bold(words.Clean(p.Database)), stepSums(p))
		for i := range p.Steps {
			s := &p.Steps[i]
			gain := ""
			if s.GainBytes > 0 {
				gain = ", about " + words.Bytes(s.GainBytes)
			}
			cmd.wrapf("  %s  %s%s: %s\n", outcomeOf(paint, s.Outcome), words.Clean(s.Object), gain, words.OneLine(s.Reason))
			cmd.printf("           %s\n", paint.dim(words.Clean(s.Statement)))
			if s.Detail != "" {
				cmd.wrapf("           %s\n", words.OneLine(s.Detail))
			}
		}
		for _, u := range p.Unread {
			cmd.wrapf("  %s  %s\n", paint.warn("not read"), words.OneLine(u))
		}
		for _, n := range p.Notes {
			cmd.wrapf("  %s  %s\n", paint.dim("note    "), words.OneLine(n))
		}
	}
	for _, f := range cmd.failed {
		cmd.wrapf("%s  %s: %s\n", paint.bad("failed"), words.Clean(f.Database), words.OneLine(f.Error))
	}
}

// stepSums counts the steps of a plan by what became of them.
func stepSums(p *maintain.Plan) string {
	switch {
	case len(p.Steps) == 0 && len(p.Unread) > 0:
		return "nothing to do in what was read"
	case len(p.Steps) == 0:
		return "nothing to do"
	}
	var parts []string
	for _, o := range []maintain.Outcome{maintain.Planned, maintain.Done, maintain.Skipped, maintain.Failed, maintain.Damaged} {
		n := 0
		for i := range p.Steps {
			if p.Steps[i].Outcome == o {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}

// outcomeOf is the word at the beginning of a step's line.
func outcomeOf(paint paint, o maintain.Outcome) string {
	word := fmt.Sprintf("%-8s", string(o))
	switch o {
	case maintain.Done:
		return paint.good(word)
	case maintain.Planned, maintain.Skipped:
		return paint.warn(word)
	case maintain.Failed, maintain.Damaged:
		return paint.bad(word)
	}
	return word
}
