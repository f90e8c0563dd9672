package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// storeOf is shorter where stores are searched for.
type storeOf = config.StoreOf

func auditCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show and verify the audit log: who did what, when and with which result",
		Long: `Every command that writes, deletes or reads out backups is recorded in the audit log
of this host: who ran it, what it was about, and how it ended. Before a swap, a rollback,
a deletion, the release of a hold and a change of keys the intent is recorded; if it
can't be, nothing is done. The commands of wal are not recorded. docs/audit.md says what a
record holds and what the log shows.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(auditShowCLI(e), auditVerifyCLI(e), auditAcceptCLI(e))
	return cmd
}

type auditShowFlags struct {
	since, actor, action, object string
	limit                        int
}

// auditShowCommand prints records.
type auditShowCommand struct {
	job
	flags auditShowFlags
}

func auditShowCLI(e *env) *cobra.Command {
	var flags auditShowFlags
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the records of the audit log",
		Long: `Prints records, oldest first. An intent without an outcome is "not finished": its process
was killed, or still runs. Hashes and MACs are checked on the way, and where one is wrong
the records before it are printed and the exit code is 11. Anchors are for audit verify.`,
		Example: `  pgmedic audit show
  pgmedic audit show --since 30d --action restore
  pgmedic audit show --actor ana --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			return (&auditShowCommand{job: j, flags: flags}).run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.since, "since", "", "records from then on: a length such as 24h or 30d, or a day in UTC such as 2026-11-20")
	f.StringVar(&flags.actor, "actor", "", "records of this user, or of sudo from this user")
	f.StringVar(&flags.action, "action", "", "records of this action, such as backup, restore, keys.add; keys means all of keys")
	f.StringVar(&flags.object, "object", "", "records about this backup or database")
	f.IntVar(&flags.limit, "limit", 100, "print the newest N records; 0 prints all")
	withoutSecrets(cmd)
	return cmd
}

// shownRecord is a record as --json prints it.
type shownRecord struct {
	audit.Record
	// Unfinished is true of an intent without an outcome.
	Unfinished bool `json:"unfinished"`
}

// openedLog is the log, or the error that it is off.
func (j job) openedLog() (*audit.Log, error) {
	if j.cfg.Audit.File == config.AuditOff {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set audit.file (PGMEDIC_AUDIT_FILE), or leave it out for the usual place", "the audit log is off (%s)", j.cfg.Origin("audit.file"))
	}
	return j.auditLog()
}

func (cmd *auditShowCommand) run(ctx context.Context) error {
	log, err := cmd.openedLog()
	if err != nil {
		return err
	}
	var from time.Time
	if cmd.flags.limit < 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "0 prints all", "--limit must be a whole number, at least 0")
	}
	if cmd.flags.since != "" {
		since, err := parseSince(cmd.flags.since)
		if err != nil {
			return err
		}
		if from = since.At; since.Ago > 0 {
			from = cmd.now().Add(-since.Ago)
		}
	}
	var chosen []shownRecord
	older := 0
	report, err := log.Verify(ctx, audit.VerifyOptions{Each: func(r audit.Record) error {
		if !cmd.matches(r, from) {
			return nil
		}
		chosen = append(chosen, shownRecord{Record: r})
		if n := cmd.flags.limit; n > 0 && len(chosen) > 2*n {
			older += len(chosen) - n
			chosen = slices.Clone(chosen[len(chosen)-n:])
		}
		return nil
	}})
	if err != nil {
		return err
	}
	if n := cmd.flags.limit; n > 0 && len(chosen) > n {
		older += len(chosen) - n
		chosen = chosen[len(chosen)-n:]
	}
	for i := range chosen {
		chosen[i].Unfinished = slices.ContainsFunc(report.Unfinished, func(r audit.Record) bool { return r.Seq == chosen[i].Seq })
	}
	if err := cmd.print(chosen, older, report); err != nil {
		return err
	}
	return damagedLog(report)
}

// damagedLog is the error of a log with problems.
func damagedLog(r *audit.Report) error {
	if r.Intact() {
		return nil
	}
	hint := "compare it with a copy or with what was forwarded; docs/audit.md#a-damaged-log"
	if len(r.Lost) == len(r.Problems) {
		hint = "find out who deleted it; for a store that was emptied on purpose: `pgmedic audit accept`"
	}
	return pgmedic.Errorf(pgmedic.KindIntegrity, hint,
		"the audit log is not intact: %s", r.Problems[0])
}

// matches reports whether a record was asked for.
func (cmd *auditShowCommand) matches(r audit.Record, from time.Time) bool {
	f := cmd.flags
	about := func() bool {
		if r.Object == f.object {
			return true
		}
		named := []string{"database", "databases", "failed", "objects", "backups", "deleted", "marked", "into", "incoming", "kept_as", "drop", "dropped"}
		for name, value := range r.Params {
			if slices.Contains(named, audit.ListName(name)) && (value == f.object || slices.Contains(strings.Fields(value), f.object)) {
				return true
			}
		}
		return false
	}
	return !r.At.Before(from) && (f.actor == "" || r.Actor.Name == f.actor || r.Actor.SudoUser == f.actor) &&
		(f.action == "" || r.Action == f.action || strings.HasPrefix(r.Action, f.action+".")) && (f.object == "" || about())
}

// outcomeWords say how an act ended.
func (r shownRecord) outcomeWords() string {
	switch {
	case r.Unfinished:
		return "not finished"
	case r.Exit != nil && *r.Exit != 0:
		return "exit " + strconv.Itoa(*r.Exit)
	}
	return r.Outcome
}

func (cmd *auditShowCommand) print(chosen []shownRecord, older int, report *audit.Report) error {
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"records": orEmpty(chosen), "older": older, "problems": report.Problems})
	}
	p := cmd.paint(cmd.stdoutTTY)
	if len(chosen) == 0 {
		cmd.wrapf("no such record in %s\n", words.Clean(report.File))
		return nil
	}
	rows := make([][]string, 0, len(chosen))
	for _, r := range chosen {
		rows = append(rows, []string{
			r.At.UTC().Format(time.DateTime), r.Actor.String(), r.Action, r.objectWords(), r.outcomeWords(),
		})
	}
	printTable(cmd.env, []string{"AT (UTC)", "BY", "ACTION", "ABOUT", "RESULT"}, rows, terminal.TableOptions{Shrink: []int{1, 3}, Move: []int{4, 3}})
	if older > 0 && !cmd.global.quiet {
		cmd.wrapf("%s\n", p.dim(fmt.Sprintf("%s older: --limit 0 prints all", words.Plural(older, "record"))))
	}
	return nil
}

// idEnd matches the end of a backup's id, by which commands find it as well.
var idEnd = regexp.MustCompile(`^\d{8}T\d{6}Z-([0-9a-f]{6})$`)

// objectWords are what a record is about, in one cell: the database, and the end of the
// backup's id.
func (r shownRecord) objectWords() string {
	object := r.Object
	if m := idEnd.FindStringSubmatch(object); m != nil {
		object = m[1]
	}
	for _, name := range []string{"database", "databases", "drop", "backups"} {
		switch value := r.Params[name]; {
		case value != "" && object != "" && value != object:
			return value + " " + object
		case value != "":
			return value
		}
	}
	return object
}

// auditVerifyCommand checks the whole log.
type auditVerifyCommand struct {
	job
	places stores
	// stores are those to compare with; none are all configured ones, unless alone.
	stores []string
	alone  bool
}

func auditVerifyCLI(e *env) *cobra.Command {
	var names []string
	var alone bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that nothing in the audit log was changed, removed or cut off",
		Long: `Computes every hash and MAC again, and compares the log with its anchors: copies of its
last hash in manifests, receipts and, once a day, in each store. Records after the newest
anchor rest on the file alone: that some were cut off there can't be seen. Intents without
an outcome are listed. A changed or cut log, and a lost anchor, are exit code 11; a store
that can't be read is exit code 15.`,
		Example: `  pgmedic audit verify
  pgmedic audit verify --file-only`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if alone && len(names) > 0 {
				return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--file-only compares with no store, and --store names one")
			}
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			return (&auditVerifyCommand{job: j, places: stores{j}, stores: names, alone: alone}).run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&names, "store", nil, "compare with this configured store alone, by its place or the name of a copy; may be repeated")
	f.BoolVar(&alone, "file-only", false, "check the file, and compare it with no store")
	return cmd
}

func (cmd *auditVerifyCommand) run(ctx context.Context) error {
	log, err := cmd.openedLog()
	if err != nil {
		return err
	}
	var a anchors
	if !cmd.alone {
		if a, err = cmd.readAnchors(ctx); err != nil {
			return err
		}
	}
	report, err := log.Verify(ctx, audit.VerifyOptions{Anchors: a.found, Stored: a.stored, Stores: a.read, ReadAt: a.readAt})
	if err != nil {
		return err
	}
	if err := cmd.print(report, a); err != nil {
		return err
	}
	if err := damagedLog(report); err != nil {
		return err
	}
	if a.unread != nil {
		return pgmedic.Errorf(pgmedic.KindDegraded, pgmedic.HintOf(a.unread), "the file was checked, and not compared with every store: %w", a.unread)
	}
	return nil
}

func (cmd *auditVerifyCommand) print(r *audit.Report, a anchors) error {
	if cmd.global.json {
		result := struct {
			Intact bool `json:"intact"`
			*audit.Report
			Unread string `json:"unread_stores,omitempty"`
		}{Intact: r.Intact(), Report: r}
		if a.unread != nil {
			result.Unread = words.OneLine(a.unread.Error())
		}
		return cmd.printJSON(result)
	}
	p := cmd.paint(cmd.stdoutTTY)
	if r.Intact() {
		if cmd.global.quiet {
			return nil
		}
		cmd.wrapf("%s %s\n", p.good("intact:"), cmd.value(fmt.Sprintf("%s in %s, %s to %s", words.Plural(r.Records, "record"),
			words.Plural(r.Files, "file"), r.FirstAt.UTC().Format(time.DateOnly), r.LastAt.UTC().Format(time.DateOnly))))
	} else {
		cmd.wrapf("%s\n", p.bad("not intact:"))
		for _, problem := range r.Problems {
			cmd.wrapf("  %s\n", words.Clean(problem.String()))
		}
	}
	anchored, after := "by nothing: what was cut off the end would not be noticed", ""
	switch {
	case cmd.alone:
		anchored = "not checked (--file-only)"
	case r.AnchoredSeq > 0:
		anchored = fmt.Sprintf("up to record %d at %s, in %s", r.AnchoredSeq, r.AnchoredAt.UTC().Format("2006-01-02 15:04Z"), words.Clean(r.AnchoredIn))
		after = words.Plural(r.LastSeq-r.AnchoredSeq, "record") + " after that: on this file alone"
	}
	more := ""
	if r.Unchecked > 0 {
		more = words.Plural(r.Unchecked, "line") + " at least, after the first problem"
	}
	torn := ""
	if r.Torn > 0 {
		torn = words.Plural(r.Torn, "line") + " that a writer did not finish; the next one said so"
	}
	if r.TornEnd {
		torn = strings.TrimPrefix(torn+"; the last line is not finished", "; ")
	}
	others := ""
	if r.Others > 0 {
		others = words.Plural(r.Others, "anchor") + " of other logs: not checked here"
	}
	cmd.fields("file", r.File, "anchored", anchored, "rests", after, "not proven", more, "torn", torn, "others", others)
	for _, x := range r.Accepted {
		cmd.wrapf("%s %s\n", p.warn("accepted:"), cmd.value(fmt.Sprintf("%s gone from %s, by %s on %s: %s", words.Plural(x.Anchors, "anchor is", "anchors are"),
			x.Store, x.By, x.At.UTC().Format(time.DateOnly), words.OneLine(x.Reason))))
	}
	for _, u := range r.Unfinished {
		cmd.wrapf("%s %s\n", p.warn("not finished:"), cmd.value(fmt.Sprintf("record %d, %s, %s by %s (process %d on %s)", u.Seq,
			u.At.UTC().Format("2006-01-02 15:04:05Z"), strings.TrimSpace(u.Action+" "+u.Object), u.Actor, u.PID, u.Host)))
	}
	return nil
}
