package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/words"
)

// unrecorded are the commands that are not in the audit log: they change nothing, take
// nothing out of a backup, have no configuration that would say where the log is, or run
// for each segment of WAL.
// Every other command is recorded.
func unrecorded() []string {
	return []string{
		"demo", "init", "check", "list", "show", "report", "explain", "emergency", "config", "man", "version", "help", "completion", "audit",
		"diff", "notify", "alerts list", "wal", "keys list", "keys new", "keys public", "schedule list", "schedule cron", "schedule systemd", "schedule kubernetes",
	}
}

// actionOf is what a command is called in the audit log: "restore", "keys.add". It is empty
// where it is not recorded, and where --dry-run has it show only what it would do.
func actionOf(cmd *cobra.Command) string {
	if dry, err := cmd.Flags().GetBool("dry-run"); err == nil && dry {
		return ""
	}
	_, name, _ := strings.Cut(cmd.CommandPath(), " ")
	for _, other := range unrecorded() {
		if name == other || strings.HasPrefix(name, other+" ") {
			return ""
		}
	}
	return strings.ReplaceAll(name, " ", ".")
}

// act is what a command says of what it does.
type act struct {
	// object is a backup's id, or a database.
	object, reason string
	params         map[string]string
	// lists are names, each of which is recorded, in as many records as that takes.
	lists map[string][]string
}

// trail writes to the audit log what one run does. The nil trail, which commands have
// that are not recorded, writes nothing.
type trail struct {
	job job
	// log is nil where it is off, or where err says why it can't be written to.
	log *audit.Log
	err error

	action, run string
	actor       audit.Actor
	// anchors is true where the run may open every store: it has read their secrets.
	anchors bool
	done    act
	// idle is true if there was nothing to do.
	idle bool
	// refused is true where the intent could not be recorded, which the run's error says.
	refused bool
	// problems are those beside the act: of the log, of forwarding.
	mu       sync.Mutex
	problems error
}

// beside notes what went wrong beside the act.
func (t *trail) beside(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problems = errors.Join(t.problems, err)
}

// newTrail begins the trail of a command, which writes nothing yet.
func newTrail(j job, action string) *trail {
	if action == "" || j.cfg.Audit.File == config.AuditOff {
		return nil
	}
	t := &trail{job: j, action: action, run: audit.NewRun(), actor: actorOf(j.env)}
	t.log, t.err = j.auditLog()
	return t
}

// mayAnchor says whether the run may open every store.
func (t *trail) mayAnchor(may bool) {
	if t != nil {
		t.anchors = may
	}
}

// actorOf is who runs the program.
func actorOf(e *env) audit.Actor {
	a := audit.Actor{Kind: "os", UID: os.Getuid(), SudoUser: e.variable("SUDO_USER")}
	// Not user.Current, which believes $USER.
	if u, err := user.LookupId(strconv.Itoa(a.UID)); err == nil {
		a.Name = u.Username
	} else {
		a.Name = "uid " + strconv.Itoa(a.UID)
	}
	return a
}

// about adds to what the run's record says.
func (t *trail) about(a act) {
	if t == nil {
		return
	}
	if a.object != "" && t.done.object != "" && a.object != t.done.object {
		t.addList("objects", a.object)
	} else {
		t.done.object = cmp.Or(a.object, t.done.object)
	}
	t.done.reason = cmp.Or(a.reason, t.done.reason)
	for name, value := range a.params {
		t.addParam(name, value)
	}
	for name, items := range a.lists {
		t.addList(name, items...)
	}
}

func (t *trail) addList(name string, items ...string) {
	if t.done.lists == nil {
		t.done.lists = map[string][]string{}
	}
	t.done.lists[name] = append(t.done.lists[name], items...)
}

func (t *trail) addParam(name, value string) {
	if t.done.params == nil {
		t.done.params = map[string]string{}
	}
	t.done.params[name] = value
}

// aboutBackup says of which backup the run is.
func (t *trail) aboutBackup(b *pgmedic.Backup) {
	if t != nil {
		t.about(act{object: b.ID, params: map[string]string{"server": b.Server.Name, "database": b.Database.Name}})
	}
}

// forget has nothing recorded: the run only shows what it would do.
func (t *trail) forget() {
	if t != nil {
		t.action = ""
	}
}

// nothingToDo notes that the run found nothing to do.
func (t *trail) nothingToDo() {
	if t != nil {
		t.idle = true
	}
}

// intend records what is about to be done, before it is. Where that can't be recorded the
// error says that nothing was done, and the caller does nothing.
func (t *trail) intend(ctx context.Context, a act) error {
	if t == nil || t.action == "" {
		return nil
	}
	planned := a.lists // which the outcome does not repeat: it says what was done of them
	a.lists = nil
	t.about(a)
	err := t.err
	if err == nil {
		err = t.append(ctx, audit.OutcomeIntended, nil, planned)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case pgmedic.KindOf(err) == pgmedic.KindDegraded: // the record is written
		t.beside(err)
		return nil
	}
	t.refused = true
	if noPlace(t.job.cfg.Audit, err) {
		return pgmedic.Errorf(pgmedic.KindFailed, hintAuditFile, "nothing was done: the audit log can't be written: %w", err)
	}
	hint := cmp.Or(pgmedic.HintOf(err), "make the audit log writable, or name a file on another disk with PGMEDIC_AUDIT_FILE; docs/audit.md#messages")
	return pgmedic.Errorf(pgmedic.KindFailed, hint, "nothing was done: the audit log can't be written: %w", err)
}

// append adds what the run's records say, with more lists. What is too much for one record
// is in several, of which the last has the exit code.
func (t *trail) append(ctx context.Context, outcome string, exit *int, more map[string][]string) error {
	all := audit.Pack(t.done.params, t.done.lists, more)
	var beside error
	for i, params := range all {
		e := audit.Entry{
			Actor: t.actor, Run: t.run, Action: t.action, Object: t.done.object, Params: params, Reason: t.done.reason, Outcome: outcome,
		}
		if i == len(all)-1 {
			e.Exit = exit
		}
		switch _, err := t.log.Append(ctx, e); {
		case err == nil:
		case pgmedic.KindOf(err) == pgmedic.KindDegraded: // the record is written
			beside = errors.Join(beside, err)
		default:
			return err
		}
	}
	return beside
}

// auditPatience is how long the end of a run waits for the log.
const auditPatience = time.Minute

// end records how the run ended, and returns its error: what went wrong beside an act
// that is done is of KindDegraded.
func (t *trail) end(ctx context.Context, err error) error {
	if t == nil || t.action == "" {
		return err
	}
	outcome, exit := audit.OutcomeDone, 0
	if err != nil {
		outcome, exit = pgmedic.KindOf(err).String(), exitCode(pgmedic.KindOf(err))
	}
	running := ctx // which an interrupt ends
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditPatience)
	defer cancel()
	problem := t.err
	if problem == nil {
		problem = t.append(ctx, outcome, &exit, nil)
		if kind := pgmedic.KindOf(problem); problem == nil || kind == pgmedic.KindDegraded {
			if problem = errors.Join(problem, t.problems); t.anchors && running.Err() == nil && (exit == 0 || exit == 15) {
				t.storeAnchors(running)
			}
		}
	}
	if problem == nil {
		return err
	}
	if err == nil && noPlace(t.job.cfg.Audit, problem) { // not by anyone's choice
		t.job.log.Warn("this run is not in the audit log, which can't be written in its usual place", "error", words.OneLine(problem.Error()), "hint", hintAuditFile)
		return nil
	}
	if err != nil {
		if !t.refused {
			t.job.log.Warn("the audit log is not complete", "error", words.OneLine(problem.Error()), "hint", cmp.Or(pgmedic.HintOf(problem), "see docs/audit.md"))
		}
		return err
	}
	done := "done"
	if t.idle {
		done = "there was nothing to do"
	}
	if pgmedic.KindOf(problem) == pgmedic.KindDegraded {
		return pgmedic.Errorf(pgmedic.KindDegraded, pgmedic.HintOf(problem), "%s, and %w", done, problem)
	}
	return pgmedic.Errorf(pgmedic.KindDegraded, cmp.Or(pgmedic.HintOf(problem), "make the audit log writable, or name a file on another disk with PGMEDIC_AUDIT_FILE; docs/audit.md#messages"),
		"%s, but the audit log does not say so: %w", done, problem)
}

// anchor is the log's head, for manifests and receipts; nil where there is none.
func (t *trail) anchor(ctx context.Context) *pgmedic.AuditAnchor {
	if t == nil || t.log == nil {
		return nil
	}
	a, begun, err := t.log.Head(ctx, t.run)
	if err != nil {
		t.beside(pgmedic.Errorf(pgmedic.KindDegraded, pgmedic.HintOf(err), "the audit log is not anchored: %w", err))
		return nil
	}
	if !begun {
		return nil
	}
	return &a
}
