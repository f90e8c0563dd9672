package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/words"
)

// deed is something that changes a live database, or who can read backups. It is reported
// because it happened, not because it is wrong: no later run ends it, so no service keeps an
// incident open for it.
type deed struct {
	// begun is true once it was confirmed. What fails before that has changed nothing, and
	// the person at the terminal knows.
	begun bool
	// replaces is true if a live database is replaced.
	replaces bool
	// database is the one that it is about, or empty.
	database string
	// done says what was done, in a sentence without a full stop, and name what events call
	// that: swapped, or with the name of another job backup.deleted. Empty is nothing.
	name, done string
	evidence   []pgmedic.Evidence
	// next is the command to run if somebody did not expect it.
	next string
}

// notifiedDeed runs a command that is a deed, and reports it. With --dry-run, and if the
// configuration can't be read, nothing is reported.
func (e *env) notifiedDeed(cmd *cobra.Command, name string, run func(ctx context.Context, j job) error) error {
	ctx := cmd.Context()
	j, err := e.load(cmd)
	if err != nil {
		return err
	}
	if dry, err := cmd.Flags().GetBool("dry-run"); err == nil && dry {
		return run(ctx, j)
	}
	n, err := newNotifier(j, name)
	if err != nil {
		return err
	}
	n.deed = &deed{}
	j.outcomes, j.notifier = n.outcomes, n
	err = run(ctx, j)
	if !n.deed.replaces && len(n.deedEvents(err)) == 0 {
		return err // a misspelt flag is refused before any channel is asked
	}
	return n.finish(ctx, err)
}

// theDeed is what the command notes of its deed. Without a notifier, as in the demo, nothing
// reads it.
func (j job) theDeed() *deed {
	if j.notifier == nil || j.notifier.deed == nil {
		return &deed{}
	}
	return j.notifier.deed
}

// beginSwap notes that a swap or a rollback was confirmed, and reports its beginning beside
// it: a database is not kept waiting for a mail server.
func (j job) beginSwap(ctx context.Context, p swap.Plan) {
	d := j.theDeed()
	d.begun, d.replaces, d.database = true, true, p.Live
	if j.notifier == nil {
		return
	}
	what := "is to be replaced by backup " + p.Incoming
	if j.notifier.name == "rollback" {
		what = "is to be replaced by " + p.Incoming
	}
	j.notifier.meanwhile(ctx, "started", fmt.Sprintf("database %s %s, with data as of %s, by %s", p.Live, what, atMinute(p.Since), j.doer()))
}

// begin notes that a deed which replaces nothing begins.
func (j job) begin(database string) {
	d := j.theDeed()
	d.begun, d.database = true, database
}

// swapped notes what a swap or a rollback did.
func (j job) swapped(s *swap.Swapped, name, incoming string) {
	d := j.theDeed()
	d.name, d.database = name, s.Database
	d.done = fmt.Sprintf("database %s was replaced by %s, with data as of %s, by %s", s.Database, incoming, atMinute(s.Since), j.doer())
	if s.Kept != "" {
		d.evidence = append(d.evidence, pgmedic.Evidence{Name: "what it was is kept as", Value: s.Kept})
		d.next = "pgmedic rollback " + shellWord(s.Database)
	}
}

// keysChanged notes what became of the ways to open backups.
func (j job) keysChanged(change keyChange, rows []keysRow) {
	d := j.theDeed()
	changed, failed := 0, 0
	for _, r := range rows {
		if r.Error != "" {
			failed++
		}
		if !r.changed {
			continue
		}
		if changed++; len(rows) == 1 {
			d.database = r.Database
		}
	}
	if changed == 0 {
		return
	}
	d.name, d.done = "changed", fmt.Sprintf("the keys that open %s were changed by %s", words.Plural(changed, "backup"), j.doer())
	params := change.params(changed)
	for _, name := range []string{"add", "remove"} {
		if params[name] != "" {
			d.evidence = append(d.evidence, pgmedic.Evidence{Name: map[string]string{"add": "added", "remove": "removed"}[name], Value: params[name]})
		}
	}
	if failed > 0 {
		d.evidence = append(d.evidence, pgmedic.Evidence{Name: "not changed", Value: strconv.Itoa(failed)})
	}
	d.next = "pgmedic keys list latest"
}

// doer is who runs this, as the audit log says it.
func (j job) doer() string {
	a := actorOf(j.env)
	if a.SudoUser != "" {
		return a.SudoUser + " as " + a.Name
	}
	return a.Name
}

func atMinute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

// meanwhile sends one event while the job goes on. finish waits for it.
func (n *notifier) meanwhile(ctx context.Context, name, summary string) {
	e := n.news(name, pgmedic.SeverityWarn, summary)
	n.starting.Go(func() {
		ctx := context.WithoutCancel(ctx)
		gather, cancel := context.WithTimeout(ctx, gatherWithin)
		defer cancel()
		if n.ready(gather); len(n.sender.Names()) == 0 {
			return
		}
		send, cancelSend := context.WithTimeout(ctx, sendWithin)
		defer cancelSend()
		if _, err := n.sender.Send(send, []notify.Event{e}); err != nil {
			n.log.Warn("the beginning could not be reported to all", "error", words.OneLine(err.Error()), "hint", pgmedic.HintOf(err))
		}
	})
}

// news is an event about a deed.
func (n *notifier) news(name string, severity pgmedic.Severity, summary string) notify.Event {
	if !strings.Contains(name, ".") {
		name = n.name + "." + name
	}
	e := notify.Event{
		Name: name, State: notify.StateInfo, Severity: severity, At: n.now(), Target: n.target(n.deed.database), Summary: summary, Due: true,
	}
	e.Fingerprint = notify.Fingerprint("deed", n.name, e.Target.Server, n.deed.database, n.run)
	return e
}

// deedEvents are what is reported of a deed at its end.
func (n *notifier) deedEvents(err error) []notify.Event {
	d := n.deed
	kind := pgmedic.KindOf(err)
	switch {
	case err == nil && d.name == "":
		return nil
	case err != nil && !d.begun && (n.stdinTTY || kind == pgmedic.KindUsage || kind == pgmedic.KindNotConfirmed):
		return nil
	case err == nil, kind == pgmedic.KindDegraded && d.name != "":
		severity := pgmedic.SeverityWarn
		if !d.replaces && n.name == "restore" { // beside what lives
			severity = pgmedic.SeverityInfo
		}
		e := n.news(d.name, severity, d.done)
		e.Evidence, e.Command = d.evidence, d.next
		if err != nil {
			e.Exit, e.Hint, e.Severity = exitCode(kind), pgmedic.HintOf(err), pgmedic.SeverityWarn
			e.Summary += "; " + words.OneLine(err.Error())
		}
		if e.Severity == pgmedic.SeverityInfo { // sent where successes are
			e.Due = false
		}
		return []notify.Event{e}
	}
	severity, what := pgmedic.SeverityWarn, "the "+n.name+" failed"
	switch {
	case d.replaces:
		severity = pgmedic.SeverityCritical
	case n.name == "keys":
		what = "the keys of backups could not be changed"
	}
	if d.name != "" { // a part of it was done
		what = d.done + "; not all of it was done"
	}
	e := n.news("failed", severity, what+": "+words.OneLine(err.Error()))
	e.Exit, e.Hint, e.Evidence, e.Command = exitCode(kind), pgmedic.HintOf(err), d.evidence, d.next
	if d.replaces && n.name == "restore" {
		e.Command = "pgmedic restore --resume --database " + shellWord(d.database)
	}
	return []notify.Event{e}
}

// interrupted reports whether a person at the terminal has ended the job. A deed that was
// reported to have begun is reported to have ended, too.
func (n *notifier) interrupted(ctx context.Context) bool {
	return n.stdinTTY && ctx.Err() != nil && (n.deed == nil || !n.deed.replaces)
}

// restoredBeside notes a restore into a new database, or of single tables into a schema.
func (j job) restoredBeside(what, where string) {
	d := j.theDeed()
	d.name, d.done = "succeeded", what+" was restored into "+where
}
