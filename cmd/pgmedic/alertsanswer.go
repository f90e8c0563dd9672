package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/words"
)

// alertsAckCommand acknowledges an alert.
type alertsAckCommand struct {
	watchedAlerts
	// name is the beginning of its fingerprint.
	name string
}

// alertsSilenceCommand keeps alerts from being reported.
type alertsSilenceCommand struct {
	watchedAlerts
	flags silenceFlags
}

// alertsUnsilenceCommand ends a silence.
type alertsUnsilenceCommand struct {
	watchedAlerts
	id string
}

func alertsAckCLI(e *env) *cobra.Command {
	var state, database string
	cmd := &cobra.Command{
		Use:   "ack ALERT",
		Short: "Acknowledge an alert: it is not repeated for 24 hours",
		Long: `Stops the repeats of an alert for 24 hours. If it gets worse, or is resolved and fires
again, it is reported. ALERT is what alerts list shows, or the beginning of it.`,
		Example: `  pgmedic alerts ack 5b0c92d1`,
		Args:    oneAlert,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &alertsAckCommand{watchedAlerts: newAlerts(j, database, state), name: args[0]}
			return command.run(cmd.Context())
		},
	}
	addWatched(cmd, &state)
	cmd.Flags().StringVar(&database, "database", "", "database that is watched (default: the configured one)")
	return cmd
}

// silenceFlags say what is silenced, and for how long.
type silenceFlags struct {
	finding, object, severity string
	reason, until             string
}

func alertsSilenceCLI(e *env) *cobra.Command {
	var state, database string
	var flags silenceFlags
	cmd := &cobra.Command{
		Use:   "silence",
		Short: "Keep alerts from being reported for a time, with a reason",
		Long: `Keeps the alerts that match from being printed and sent, for at most 30 days. They keep
their state: what still fires at the end of the silence is reported then. Name a
finding, an object or a severity, or give all of them.`,
		Example: `  pgmedic alerts silence --finding archiver-failing --until 4h --reason 'the archive host is being moved'
  pgmedic alerts silence --severity warn --until 2026-12-01 --reason migration`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &alertsSilenceCommand{watchedAlerts: newAlerts(j, database, state), flags: flags}
			return command.run(cmd.Context())
		},
	}
	addWatched(cmd, &state)
	f := cmd.Flags()
	f.StringVar(&database, "database", "", "database that is watched (default: the configured one)")
	f.StringVar(&flags.finding, "finding", "", "id of a finding, as alerts list shows it")
	f.StringVar(&flags.object, "object", "", "object of a finding, such as public.claims")
	f.StringVar(&flags.severity, "severity", "", "critical or warn")
	f.StringVar(&flags.reason, "reason", "", "why nothing is to be reported")
	f.StringVar(&flags.until, "until", "", "when it ends: a length such as 4h or 7d, a date, at whose end in UTC it does, or a time such as 2026-12-01T06:00:00Z")
	return cmd
}

func alertsUnsilenceCLI(e *env) *cobra.Command {
	var state, database string
	cmd := &cobra.Command{
		Use:     "unsilence SILENCE",
		Short:   "End a silence now",
		Example: `  pgmedic alerts unsilence k3x7qa`,
		Args:    oneAlert,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &alertsUnsilenceCommand{watchedAlerts: newAlerts(j, database, state), id: args[0]}
			return command.run(cmd.Context())
		},
	}
	addWatched(cmd, &state)
	cmd.Flags().StringVar(&database, "database", "", "database that is watched (default: the configured one)")
	return cmd
}

func (cmd *alertsAckCommand) run(ctx context.Context) error {
	name := cmd.name
	_, path, state, err := cmd.open()
	if err != nil {
		return err
	}
	var found []alert.Alert
	for fingerprint, a := range state.Alerts {
		if strings.HasPrefix(fingerprint, strings.ToLower(name)) && a.Phase == alert.Firing {
			found = append(found, a)
		}
	}
	switch {
	case len(found) == 0 || name == "":
		return pgmedic.Errorf(pgmedic.KindNotFound, "pgmedic alerts list shows what fires", "no alert %q fires", name)
	case len(found) > 1:
		return pgmedic.Errorf(pgmedic.KindUsage, "write more of it, as pgmedic alerts list --json has it", "%d alerts that fire begin with %q", len(found), name)
	}
	a, by := found[0], cmd.doer()
	cmd.trail.about(act{object: databaseOf(a), params: map[string]string{"finding": a.ID, "about": a.Object, "alert": a.Fingerprint}})
	if err := cmd.change(ctx, path, func(x alert.Answers) (alert.Answers, error) {
		x, _ = x.Acknowledge(state, a.Fingerprint, by, cmd.now())
		return x, nil
	}); err != nil {
		return err
	}
	until := cmd.now().Add(alert.Acknowledged)
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"alert": a.Fingerprint, "finding": a.ID, "object": a.Object, "by": by, "until": until.UTC()})
	}
	if !cmd.global.quiet {
		cmd.printf("acknowledged %s, %s: not repeated until %s\n", words.Clean(a.ID), words.Clean(a.Object), atMinute(until))
	}
	cmd.takesEffect(path)
	return nil
}

// databaseOf is the database that an alert is about, or that its target has.
func databaseOf(a alert.Alert) string {
	return cmp.Or(a.Database, a.Target[strings.LastIndex(a.Target, "/")+1:])
}

// newSilence makes a silence of what the flags say.
func (cmd *alertsSilenceCommand) newSilence(target string) (alert.Silence, error) {
	flags := cmd.flags
	x := alert.Silence{
		ID: strings.ToLower(rand.Text()[:6]), By: cmd.doer(), Reason: strings.TrimSpace(flags.reason), From: cmd.now().UTC(),
		Matchers: []alert.Matcher{{Label: "target", Value: target}},
	}
	switch flags.severity {
	case "", string(pgmedic.SeverityCritical), string(pgmedic.SeverityWarn):
	default:
		return x, pgmedic.Errorf(pgmedic.KindUsage, "use critical or warn", "--severity %q is neither critical nor warn", flags.severity)
	}
	if flags.finding != "" && !slices.Contains([]string{alert.Unwatched, alert.ServerUnreachable, alert.StoreUnreachable}, flags.finding) {
		sections := findingSections(findingsPage())
		if !slices.ContainsFunc(sections, func(s findingSection) bool { return s.ID == flags.finding }) {
			return x, fmt.Errorf("--finding: %w", unknownFinding(flags.finding, sections))
		}
	}
	for _, m := range []alert.Matcher{{Label: "id", Value: flags.finding}, {Label: "object", Value: flags.object}, {Label: "severity", Value: flags.severity}} {
		if m.Value != "" {
			x.Matchers = append(x.Matchers, m)
		}
	}
	if len(x.Matchers) == 1 {
		return x, pgmedic.Errorf(pgmedic.KindUsage, "give --finding, --object or --severity", "a silence of everything is refused")
	}
	if flags.until == "" {
		return x, pgmedic.Errorf(pgmedic.KindUsage, "give --until 4h", "a silence needs an end")
	}
	if x.Reason == "" {
		return x, pgmedic.Errorf(pgmedic.KindUsage, "for example, give --reason 'the disk is being replaced'", "a silence needs a reason")
	}
	end, _, err := until(flags.until, cmd.now())
	if err != nil {
		return x, err
	}
	x.Until = end.UTC()
	return x, x.Check()
}

func (cmd *alertsSilenceCommand) run(ctx context.Context) error {
	target, path, state, err := cmd.open()
	if err != nil {
		return err
	}
	x, err := cmd.newSilence(target)
	if err != nil {
		return err
	}
	cmd.trail.about(act{object: target, reason: x.Reason, params: map[string]string{"silence": x.ID, "matches": matched(x), "until": x.Until.Format(time.RFC3339)}})
	if err := cmd.change(ctx, path, func(all alert.Answers) (alert.Answers, error) {
		all.Silences = append(all.Silences, x)
		return all, nil
	}); err != nil {
		return err
	}
	covers := 0
	for _, a := range state.Alerts {
		if a.Phase == alert.Firing && x.Covers(a, cmd.now()) {
			covers++
		}
	}
	switch {
	case cmd.global.json:
		return cmd.printJSON(struct {
			alert.Silence
			Covers int `json:"covers"`
		}{x, covers})
	case cmd.global.quiet:
		cmd.printf("%s\n", x.ID)
	default:
		cmd.printf("silence %s until %s: %s; it covers %s now\n", x.ID, atMinute(x.Until), words.Clean(matched(x)), words.Plural(covers, "alert that fires", "alerts that fire"))
	}
	cmd.takesEffect(path)
	return nil
}

func (cmd *alertsUnsilenceCommand) run(ctx context.Context) error {
	id := cmd.id
	target, path, _, err := cmd.open()
	if err != nil {
		return err
	}
	cmd.trail.about(act{object: target, params: map[string]string{"silence": id}})
	err = cmd.change(ctx, path, func(x alert.Answers) (alert.Answers, error) {
		i := slices.IndexFunc(x.Silences, func(s alert.Silence) bool { return s.ID == id })
		if i < 0 {
			return x, pgmedic.Errorf(pgmedic.KindNotFound, "pgmedic alerts list shows them", "there is no silence %q, or it has ended", id)
		}
		x.Silences = slices.Delete(x.Silences, i, i+1)
		return x, nil
	})
	if err != nil {
		return err
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]string{"ended": id})
	}
	if !cmd.global.quiet {
		cmd.printf("silence %s has ended: what fires is reported again\n", words.Clean(id))
	}
	cmd.takesEffect(path)
	return nil
}
