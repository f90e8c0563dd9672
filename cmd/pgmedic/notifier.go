package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/walstream"
	"github.com/pgmedic/pgmedic/internal/words"
)

// notifier reports how a job ended: to a dead man's switch, and to channels.
type notifier struct {
	job
	stores stores
	keys   keyring
	// sender has no channels before ready has read them: it only pings.
	sender *notify.Sender
	// name is the job's, run the id of this run of it.
	name, run string
	scope     jobScope
	began     time.Time
	outcomes  *outcomes
	// starting is the ping that the job starts, which the job does not wait for. It reads
	// pingURL, the dead man's switch, or pingErr says why that is not known.
	starting sync.WaitGroup
	pingURL  string
	pingErr  error
	// prepared is true once ready was called, and unread is what of the settings can't be
	// used: the job runs all the same.
	prepared bool
	unread   error
	// deed is what the job does to a live database or to keys, or nil.
	deed *deed
	// digestNow is true where a digest is sent at the end of the job whether it is due or not.
	digestNow bool
	// listing is what the stores have, once it was read.
	listing *storedBackups
}

// notified runs a job, and reports how it ended. What can't be reported is an error of
// KindDegraded where the job succeeded, and else a warning beside its error: settings of
// notifications that can't be used stop no job. Where the configuration can't be read
// nothing can be reported: the dead man's switch notices.
func (e *env) notified(cmd *cobra.Command, name string, run func(ctx context.Context, j job) error) error {
	ctx := cmd.Context()
	j, err := e.load(cmd)
	if j.cfg == nil {
		return err
	}
	n, setupErr := newNotifier(j, name)
	if setupErr != nil {
		return cmp.Or(err, setupErr)
	}
	n.scope = jobScopeOf(cmd, name, j.cfg.Backup)
	n.start(ctx)
	if err == nil {
		j.outcomes, j.notifier = n.outcomes, n
		err = run(ctx, j)
	}
	return n.finish(ctx, err)
}

// newNotifier returns one that knows no channels yet.
func newNotifier(j job, name string) (*notifier, error) {
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	n := &notifier{job: j, stores: stores{j}, keys: keyring{j}, name: name, run: notify.NewRun(), began: j.now(), outcomes: &outcomes{}}
	var err error
	n.sender, err = notify.New(n.options())
	return n, err
}

// resolve reads a secret of notifications.
func (n *notifier) resolve(ctx context.Context, text string) (string, error) {
	if n.secrets == nil || n.secrets.Scheme(text) == "" {
		return text, nil
	}
	return n.secrets.Resolve(ctx, text)
}

// options are those without channels.
func (n *notifier) options() notify.Options {
	s := n.cfg.Notifications
	return notify.Options{
		OnSuccess: s.OnSuccess, Anonymous: s.Names == "none", AllowPrivate: s.AllowPrivate, Resolve: n.resolve,
		Host: hostName(), Now: n.now, Logger: n.log, Dir: n.dir(),
	}
}

// ready reads the channels, once, so that the sender has those that can be used. What can't
// be is in unread, of KindUsage where it is a setting that can't work. It may ask a secret
// manager for the URL of the webhook.
func (n *notifier) ready(ctx context.Context) {
	if n.prepared || !n.cfg.Notifications.Enabled {
		return
	}
	n.prepared = true
	s, o := n.cfg.Notifications, n.options()
	problems := []error{n.cfg.CheckNotifications()}
	if u, err := url.Parse(s.Link); s.Link != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http") {
		problems = append(problems, pgmedic.Errorf(pgmedic.KindUsage, "write https://HOST/PATH", "notifications.link is not an address of the web"))
	} else {
		o.Link = s.Link
	}
	hook, err := n.webhook(ctx)
	if err != nil {
		problems, o.Absent = append(problems, err), []string{webhookName}
	}
	o.Channels = n.channels(hook)
	for _, r := range s.Routes {
		route := notify.Route{Match: r.Match, To: r.To}
		for _, step := range r.Escalate {
			route.Escalate = append(route.Escalate, notify.Step{After: step.After, To: step.To})
		}
		o.Routes = append(o.Routes, route)
	}
	if problems[0] != nil { // which says that routes lead nowhere
		o.Routes = nil
	}
	usable, wrong := o.Usable()
	sender, err := notify.New(usable)
	if err == nil {
		n.sender = sender
	}
	n.unread = errors.Join(append(append(problems, wrong...), err)...)
}

// webhookName is the channel that NOTIFICATION_WEBHOOK makes.
const webhookName = "webhook"

// flawed reports whether there are settings that can't be used.
func (n *notifier) flawed() bool { return n.unread != nil }

// webhook is the channel of NOTIFICATION_WEBHOOK, without a name where there is none.
func (n *notifier) webhook(ctx context.Context) (notify.Channel, error) {
	hook, err := n.resolve(ctx, n.cfg.Written("notifications.webhook"))
	if err != nil {
		return notify.Channel{}, fmt.Errorf("notifications.webhook: %w", err)
	}
	if hook == "" {
		return notify.Channel{}, nil
	}
	kind, err := notify.KindOfURL(hook)
	if err != nil {
		return notify.Channel{}, pgmedic.Errorf(pgmedic.KindUsage, pgmedic.HintOf(err), "%s: %w", n.cfg.Origin("notifications.webhook"), err)
	}
	return notify.Channel{Name: webhookName, Type: kind, URL: hook}, nil
}

// channels are those of the file, and those of the names that existing deployments have,
// of which hook is the webhook.
func (n *notifier) channels(hook notify.Channel) (all []notify.Channel) {
	s, smtp := n.cfg.Notifications, n.cfg.Written("notifications.smtp")
	if len(s.Email) > 0 {
		all = append(all, notify.Channel{Name: "email", Type: notify.TypeEmail, To: s.Email, From: s.From, SMTP: smtp})
	}
	if hook.Name != "" {
		all = append(all, hook)
	}
	for _, c := range s.Channels {
		one := notify.Channel{
			Name: c.Name, Type: c.Type, URL: c.URL, To: c.To, From: c.From, SMTP: c.SMTP, Key: c.Key, Token: c.Token, Topic: c.Topic,
			Secrets: c.Secrets, Body: c.Body, CAFile: c.CAFile, SkipResolved: c.SkipResolved,
		}
		if one.Type == notify.TypeEmail {
			one.From, one.SMTP = cmp.Or(one.From, s.From), cmp.Or(one.SMTP, smtp)
		}
		all = append(all, one)
	}
	return all
}

// dir is the folder for messages that could not be sent, or empty where none is known: no
// job fails for that. It is one for each configuration and server, so that those of one
// user neither drop each other's messages nor end each other's problems.
func (n *notifier) dir() string {
	if dir := n.cfg.Notifications.Dir; dir != "" {
		return dir
	}
	state, err := n.stateDir()
	if err != nil {
		return ""
	}
	return filepath.Join(state, "notify", notify.Fingerprint(cmp.Or(n.cfg.File, n.cfg.EnvFile), n.target("").Server))
}

// startWithin bounds how long it takes to report that a job starts, beside it.
const startWithin = 20 * time.Second

// start pings that the job starts, while it does.
func (n *notifier) start(ctx context.Context) {
	written, pinger := n.cfg.Written("pings."+n.name), n.sender
	if written == "" {
		return
	}
	n.starting.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startWithin)
		defer cancel()
		if n.pingURL, n.pingErr = n.resolve(ctx, written); n.pingErr != nil {
			return // finish tries again
		}
		if err := pinger.Ping(ctx, notify.Ping{Job: n.name, URL: n.pingURL, Signal: notify.SignalStart, Run: n.run}); err != nil {
			n.log.Warn("the start of the job could not be reported", "error", words.OneLine(err.Error()))
		}
	})
}

const (
	// gatherWithin bounds all that a report reads before it is sent: secrets, and what the
	// stores have. A store that hangs must not use up the time for sending.
	gatherWithin = 20 * time.Second
	// sendWithin bounds the sending, which begins after that: a channel has half of it, and
	// the news of channels that are broken the other.
	sendWithin = 70 * time.Second
)

// finish reports how the job ended, whatever became of its context.
func (n *notifier) finish(ctx context.Context, err error) error {
	// The person at the terminal has ended it, and knows.
	known := n.interrupted(ctx)
	ctx = context.WithoutCancel(ctx)
	problem := n.pinged(ctx, err)
	gather, cancel := context.WithTimeout(ctx, gatherWithin)
	defer cancel()
	n.ready(gather)
	problem = errors.Join(problem, n.unread)
	if len(n.sender.Names()) > 0 && !known {
		events, digestErr := n.atEnd(gather, err)
		send, cancel := context.WithTimeout(ctx, sendWithin)
		defer cancel()
		results, sendErr := n.sender.Send(send, events)
		for _, r := range results {
			n.log.Debug("notification", "channel", r.Channel, "outcome", string(r.Outcome), "took", r.Took)
		}
		problem = errors.Join(problem, sendErr, digestErr)
	}
	switch {
	case problem == nil:
		return err
	case err == nil:
		return pgmedic.Errorf(pgmedic.KindDegraded, pgmedic.HintOf(problem), "%s, and not everything was reported: %w", n.isDone(), problem)
	}
	n.log.Warn("the failure could not be reported to all", "error", words.OneLine(problem.Error()), "hint", pgmedic.HintOf(problem))
	return err
}

// isDone says of a job that it ended well.
func (n *notifier) isDone() string {
	if n.name == "keys" {
		return "the keys are changed"
	}
	return "the " + n.name + " is done"
}

// atEnd are the events that are sent when the job ends, with the digest if that is due. A
// deed sends no digest: no run should wait for the stores of one.
func (n *notifier) atEnd(ctx context.Context, err error) ([]notify.Event, error) {
	if n.deed != nil {
		return n.deedEvents(err), nil
	}
	events := append(n.events(ctx, err), n.roomEvents(ctx)...)
	digest, digestErr := n.digest(ctx, events)
	return append(events, digest...), digestErr
}

// pinged pings the end of the job, if it has a dead man's switch.
func (n *notifier) pinged(ctx context.Context, err error) error {
	n.starting.Wait()
	if n.pingErr != nil {
		again, cancel := context.WithTimeout(ctx, startWithin)
		defer cancel()
		n.pingURL, n.pingErr = n.resolve(again, n.cfg.Written("pings."+n.name))
	}
	switch {
	case n.pingErr != nil:
		return fmt.Errorf("pings.%s: %w", n.name, n.pingErr)
	case n.pingURL == "":
		return nil
	}
	return n.sender.Ping(ctx, n.ping(err))
}

// ping is the end of the job, without names.
func (n *notifier) ping(err error) notify.Ping {
	p := notify.Ping{Job: n.name, URL: n.pingURL, Signal: notify.SignalSuccess, Run: n.run}
	code := 0
	if err != nil {
		p.Signal, code = notify.SignalFail, exitCode(pgmedic.KindOf(err))
	}
	p.Body = fmt.Sprintf("pgmedic %s: exit code %d after %s\n", n.name, code, words.Duration(n.now().Sub(n.began)))
	return p
}

// outcome is how a job ended for one database, or for all of a server.
type outcome struct {
	database string
	// backup is the id of the backup that it is about, or empty.
	backup string
	err    error
	// whole is true of the job as such, such as that it could not begin.
	whole bool
	// quiet is true of what ends what was wrong of its backup, and is not news by itself.
	quiet bool
}

// outcomes gathers them while a job runs, and events beside them. Nil gathers none.
type outcomes struct {
	all    []outcome
	events []notify.Event
}

func (o *outcomes) add(one outcome) {
	if o != nil {
		o.all = append(o.all, one)
	}
}

// news reports whether there is an outcome that is one.
func (o *outcomes) news() bool {
	return slices.ContainsFunc(o.all, func(one outcome) bool { return !one.quiet })
}

// has reports whether there is an event of that name beside the outcomes.
func (o *outcomes) has(name string) bool {
	return slices.ContainsFunc(o.events, func(e notify.Event) bool { return e.Name == name })
}

// events are what is reported of the job: an event for each outcome, and one of the job
// as such, where it failed without any or succeeded.
func (n *notifier) events(ctx context.Context, err error) (events []notify.Event) {
	all := n.outcomes.all
	reported := slices.ContainsFunc(all, func(o outcome) bool { return o.err != nil })
	var status *statusError
	if errors.As(err, &status) { // of a job that did what it was asked for
		err = nil
	}
	switch {
	case err != nil && !reported:
		all = append(all, outcome{database: n.database(), err: err, whole: true})
	case err == nil && !untilStopped(n.name): // of which it is not news that it was ended
		all = append(all, outcome{database: n.database(), whole: true})
	}
	for _, o := range all {
		if !o.quiet {
			events = append(events, n.event(ctx, o))
		}
		events = append(events, n.ends(o)...)
	}
	return append(events, n.outcomes.events...)
}

// target says what an event is about. The server's name must not depend on whether it
// can be reached: events about one thing are told apart by it.
func (n *notifier) target(database string) notify.Target {
	t := notify.Target{Server: n.cfg.Server, Database: database, Labels: n.cfg.Backup.Labels}
	if t.Server == "" {
		if to, err := (servers{n.job}).target(); err == nil {
			t.Server = address(to)
		}
	}
	return t
}

func (n *notifier) event(ctx context.Context, o outcome) notify.Event {
	e := notify.Event{At: n.now(), Target: n.target(o.database), State: notify.StateInfo, Severity: pgmedic.SeverityInfo}
	e.Fingerprint = n.fingerprint(o)
	said := jobWords(n.name)
	if o.err == nil {
		// Where there is an outcome for each database, that of the job is not news.
		e.Name, e.Summary, e.Once = n.name+"."+said.good, n.goodSentence(said, o), o.whole && (n.outcomes.news() || n.name == checkJob || n.outcomes.has(pruneDeleted))
		return e
	}
	kind := pgmedic.KindOf(o.err)
	e.State, e.Exit, e.Hint = notify.StateFiring, exitCode(kind), pgmedic.HintOf(o.err)
	e.Name, e.Severity, e.Summary = n.name+".failed", pgmedic.SeverityCritical, said.bad
	switch {
	case kind == pgmedic.KindDegraded:
		e.Name, e.Severity, e.Summary = n.name+".degraded", pgmedic.SeverityWarn, said.degraded
	case n.name == "drill" && kind != pgmedic.KindIntegrity:
		e.Name, e.Severity, e.Summary = "drill.not_held", pgmedic.SeverityWarn, "the drill could not be held"
	case errors.Is(o.err, walstream.ErrConflict):
		e.Name = "wal.split_history"
	case n.name == "prune":
		e.Name, e.Severity = "prune.stopped", pgmedic.SeverityWarn
	case n.name == "copy" && kind != pgmedic.KindIntegrity, n.name == "verify" && kind != pgmedic.KindIntegrity:
		e.Severity = pgmedic.SeverityWarn
	}
	if o.backup != "" {
		e.Evidence = append(e.Evidence, pgmedic.Evidence{Name: "backup", Value: o.backup})
	}
	e.Summary += ": " + o.err.Error()
	e.Command = said.command(o.database)
	if o.database != "" {
		e.Recovery = n.recovery(ctx, o.database)
	}
	return e
}

// wordsOf is how messages speak of a job.
type wordsOf struct {
	good, goodSentence, bad, degraded string
	command                           func(database string) string
}

func jobWords(name string) wordsOf {
	with := func(command string) func(string) string { return func(string) string { return command } }
	switch name {
	case "backup":
		return wordsOf{
			good: "succeeded", goodSentence: "the backup succeeded", bad: "the backup failed", degraded: "the backup is taken, but something beside it failed",
			command: func(database string) string { return strings.TrimSpace("pgmedic check " + shellWord(database)) },
		}
	case "copy":
		return wordsOf{good: "succeeded", goodSentence: "the copies are complete", bad: "copies are not complete", degraded: "copies are not complete", command: with("pgmedic copy --all")}
	case "verify":
		return wordsOf{good: "succeeded", goodSentence: "the backups are intact", bad: "the verification failed", degraded: "the verification is done, but something beside it failed", command: with("pgmedic list")}
	case "drill":
		return wordsOf{good: "proven", goodSentence: "the drill proved a backup", bad: "the drill failed", degraded: "the drill is done, but something beside it failed", command: with("pgmedic drill --sample 30")}
	}
	if name == walJob {
		return wordsOf{good: "running", goodSentence: "WAL is streamed", bad: "the stream of WAL has ended", degraded: "the stream of WAL has ended, and something beside it failed", command: with("pgmedic wal status")}
	}
	if name == watchJob {
		return wordsOf{good: "running", goodSentence: "the watch is running", bad: "the watch has ended", degraded: "the watch has ended, and something beside it failed", command: with("pgmedic check")}
	}
	if name == checkJob {
		return wordsOf{good: "succeeded", goodSentence: "the check could be made", bad: "the check could not be made", degraded: "the check is made, but something beside it failed", command: with("pgmedic check")}
	}
	if name == "report" {
		return wordsOf{good: "succeeded", goodSentence: "the report could be made", bad: "no report could be made", degraded: "the report is made, but something beside it failed", command: with("pgmedic check")}
	}
	return wordsOf{good: "succeeded", goodSentence: "the " + name + " succeeded", bad: "the " + name + " failed", degraded: "the " + name + " is done, but something beside it failed", command: with("pgmedic " + name + " --dry-run")}
}

// untilStopped reports whether a job runs until it is stopped.
func untilStopped(name string) bool { return name == watchJob || name == walJob }

// shellWord makes a name one word of a shell, for commands that are shown.
func shellWord(name string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.'
	}
	if name == "" || !strings.HasPrefix(name, "-") && strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
