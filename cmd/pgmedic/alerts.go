package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// watchedAlerts are the alerts that a watch keeps, and what people say to them.
type watchedAlerts struct {
	// reportCommand names the target and its file as a watch does.
	reportCommand
}

// alertsListCommand shows them.
type alertsListCommand struct {
	watchedAlerts
	all bool
}

func alertsCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "Show, acknowledge and silence the alerts of report --watch",
		Long: `report --watch keeps a file of alerts for each target, which is a server and a database.
These commands show it, and keep silences and acknowledgements in a file beside it,
which the watch reads before each report. Run them on the watch's host, with its
configuration and as its user.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(alertsListCLI(e), alertsAckCLI(e), alertsSilenceCLI(e), alertsUnsilenceCLI(e))
	return cmd
}

// newAlerts returns those of a database, or of the configured one.
func newAlerts(j job, database, state string) watchedAlerts {
	c := watchedAlerts{reportCommand{job: j, servers: servers{j}, flags: reportFlags{watchState: state}}}
	if database != "" {
		c.args = []string{database}
	}
	return c
}

// addWatched adds the flags that say of which watch the alerts are.
func addWatched(cmd *cobra.Command, state *string) {
	addConnection(cmd)
	cmd.Flags().StringVar(state, "watch-state", "", "the file of the watch (default: alerts-….json beside the history)")
}

func alertsListCLI(e *env) *cobra.Command {
	var state string
	var all bool
	cmd := &cobra.Command{
		Use:   "list [DATABASE]",
		Short: "Show what fires, and what is silenced",
		Long: `Shows the alerts that fire, as of the last report of the watch, and the silences that
have not ended. With --all also those that are pending, or were resolved in the last 30
days.`,
		Example: `  pgmedic alerts list
  pgmedic alerts list clinic --all --json`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &alertsListCommand{watchedAlerts: newAlerts(j, strings.Join(args, ""), state), all: all}
			return command.run(cmd.Context())
		},
	}
	addWatched(cmd, &state)
	cmd.Flags().BoolVar(&all, "all", false, "also those that are pending or resolved")
	return cmd
}

// oneAlert refuses other than one argument.
func oneAlert(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return pgmedic.Errorf(pgmedic.KindUsage, "pgmedic alerts list shows the names", "takes one name, and got %d", len(args))
	}
	return nil
}

// answersPath is the file of what people say to the alerts of a watch.
func answersPath(path string) string { return path + ".answers" }

// readAnswers reads it; there are none where it is not there.
func readAnswers(path string) (x alert.Answers, err error) {
	data, problem, err := readBounded(path)
	switch {
	case err != nil || data == nil && problem == nil:
		return alert.Answers{Format: alert.AnswersFormat}, err
	case problem == nil && json.Unmarshal(data, &x) == nil:
		return x, x.Check()
	}
	return x, pgmedic.Errorf(pgmedic.KindIntegrity, "move "+path+" away, and silence again", "the file of silences and acknowledgements is damaged")
}

// open reads the state of the watch, and says where it is kept.
func (cmd *watchedAlerts) open() (target, path string, state alert.State, err error) {
	if cmd.cfg.Report.History == historyOff && cmd.flags.watchState == "" {
		return "", "", state, pgmedic.Errorf(pgmedic.KindUsage, "name the file of the watch with --watch-state", "report.history is off, and beside it a watch keeps its alerts")
	}
	if target, _, err = cmd.watched(); err != nil {
		return "", "", state, err
	}
	if path, err = cmd.alertsPath(target); err != nil {
		return "", "", state, err
	}
	state, problem, err := readAlerts(path)
	switch {
	case err != nil:
		return "", "", state, err
	case problem != nil:
		return "", "", state, pgmedic.Errorf(pgmedic.KindIntegrity, "the next watch renames it and begins again", "the file of alerts %s is damaged: %w", path, problem)
	case len(state.Targets) == 0:
		return "", "", state, pgmedic.Errorf(pgmedic.KindNotFound, "start one: pgmedic report --watch 30s; or name its file with --watch-state", "no watch of %s has kept alerts in %s", target, path)
	}
	return target, path, state, nil
}

// change changes the answers, under a lock. Watches read the file whole, old or new.
func (cmd *watchedAlerts) change(ctx context.Context, path string, how func(alert.Answers) (alert.Answers, error)) error {
	path = answersPath(path)
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "run it as the user of the watch", "open the lock of silences: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return pgmedic.Errorf(pgmedic.KindConflict, "run it again", "another command changes the silences of %s", filepath.Base(path))
	}
	x, err := readAnswers(path)
	if err != nil {
		return err
	}
	if x, err = how(x.Current(cmd.now())); err != nil {
		return err
	}
	data, err := json.Marshal(x)
	if err != nil {
		return fmt.Errorf("write the silences: %w", err)
	}
	return writeFile(ctx, path, data, 0o600)
}

// watchRuns reports whether a watch has the file open.
func watchRuns(path string) bool {
	lock, err := os.Open(path + ".lock")
	if err != nil {
		return false
	}
	defer func() { _ = lock.Close() }()
	return errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// takesEffect says when a change counts.
func (cmd *watchedAlerts) takesEffect(path string) {
	if !cmd.global.quiet && !cmd.global.json && !watchRuns(path) {
		fmt.Fprintln(cmd.stderr, "no watch runs now; it counts once one does")
	}
}

// alertRow is an alert in the JSON of alerts list.
type alertRow struct {
	alert.Alert
	// SilencedBy are the ids of silences that cover it now.
	SilencedBy []string `json:"silenced_by"`
}

func (cmd *alertsListCommand) run(context.Context) error {
	target, path, state, err := cmd.open()
	if err != nil {
		return err
	}
	answers, err := readAnswers(answersPath(path))
	if err != nil {
		return err
	}
	now := cmd.now()
	state = state.With(answers.Current(now))
	rows := []alertRow{}
	for _, a := range state.Alerts {
		if a.Target != target || a.Phase != alert.Firing && !cmd.all {
			continue
		}
		row := alertRow{Alert: a, SilencedBy: []string{}}
		for _, x := range state.Silences {
			if x.Covers(a, now) {
				row.SilencedBy = append(row.SilencedBy, x.ID)
			}
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(x, y alertRow) int {
		return cmp.Or(cmp.Compare(y.Severity.Rank(), x.Severity.Rank()), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Object, y.Object), cmp.Compare(x.Fingerprint, y.Fingerprint))
	})
	watched := state.Targets[target]
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"target": target, "last_checked": watched.LastLooked, "alerts": rows, "silences": orEmpty(state.Silences)})
	}
	cmd.printAlerts(rows, state.Silences, now)
	if !cmd.global.quiet {
		running := "a watch runs"
		if !watchRuns(path) {
			running = "no watch runs now"
		}
		fmt.Fprintf(cmd.stderr, "%s, last checked %s; %s\n", words.Clean(target), words.Ago(now, watched.LastLooked), running)
	}
	return nil
}

// shownFingerprint is as much of one as tells alerts apart.
const shownFingerprint = 8

func (cmd *alertsListCommand) printAlerts(rows []alertRow, silences []alert.Silence, now time.Time) {
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }
	var cells [][]string
	for _, r := range rows {
		note := ""
		switch {
		case len(r.SilencedBy) > 0:
			note = "silenced: " + strings.Join(r.SilencedBy, ", ")
		case now.Before(r.AcknowledgedUntil):
			note = "acknowledged by " + r.AcknowledgedBy + " until " + at(r.AcknowledgedUntil)
		case r.Stale:
			note = "not checked since " + at(r.LastChecked)
		}
		about := r.ID + ", " + r.Object
		cells = append(cells, []string{r.Fingerprint[:shownFingerprint], string(r.Phase), string(r.Severity), words.Clean(about), at(r.Since), words.Clean(note)})
	}
	if len(cells) > 0 {
		printTable(cmd.env, []string{"ALERT", "STATE", "SEVERITY", "FINDING", "SINCE", "NOTE"}, cells, terminal.TableOptions{Shrink: []int{3}, Move: []int{5, 3}})
	} else if !cmd.global.quiet {
		cmd.printf("nothing fires\n")
	}
	if len(silences) == 0 {
		return
	}
	cells = nil
	for _, x := range silences {
		cells = append(cells, []string{words.Clean(x.ID), at(x.Until), words.Clean(x.By), words.Clean(matched(x)), words.Clean(words.OneLine(x.Reason))})
	}
	cmd.printf("\n")
	printTable(cmd.env, []string{"SILENCE", "UNTIL", "BY", "MATCHES", "REASON"}, cells, terminal.TableOptions{Shrink: []int{2, 3}, Move: []int{4, 3}})
}

// matched says what a silence is for.
func matched(x alert.Silence) string {
	var all []string
	for _, m := range x.Matchers {
		if m.Label == "id" {
			m.Label = "finding"
		}
		if m.Label != "target" { // which has a file of its own
			all = append(all, m.Label+" "+m.Value)
		}
	}
	return strings.Join(all, ", ")
}
