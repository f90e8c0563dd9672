package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/words"
)

func notifyCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Try the channels that notifications go to",
		Long: `backup, copy, verify, drill and prune report a failure, and its end, to the channels
under notifications: in the configuration, and report and check do with --notify. restore
--swap, rollback and changes of keys are reported when they are done. A message that
can't be sent is kept, the job exits with 15 if it succeeded otherwise, and the next job
sends the message first.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(notifyTestCLI(e))
	return cmd
}

// notifyTestCommand sends a sample event.
type notifyTestCommand struct {
	job
	sender *notifier

	channels []string
	event    string
}

func notifyTestCLI(e *env) *cobra.Command {
	event := notify.Samples()[0]
	cmd := &cobra.Command{
		Use:   "test [CHANNEL…]",
		Short: "Send a test message to each channel, or to those that are named",
		Long: `Sends a message that is marked as a test, exactly as a job would send one, and prints
for each channel whether its service took it and how long that took. PagerDuty and
Alertmanager also receive its end at once, so that no incident stays open. A message
that can't be sent is not kept, and exits with 15. Pings are not sent.

Events: ` + strings.Join(notify.Samples(), ", ") + `.`,
		Example: `  pgmedic notify test
  pgmedic notify test ops pager --event drill-failed`,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			n, err := newNotifier(j, "notify test")
			if err != nil {
				return err
			}
			n.ready(cmd.Context())
			command := &notifyTestCommand{job: j, sender: n, channels: args, event: event}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&event, "event", event, "what to send a message about: "+strings.Join(notify.Samples(), ", "))
	return cmd
}

// notifyTestRow is one message in the JSON of notify test.
type notifyTestRow struct {
	notify.Result
	Milliseconds int64  `json:"milliseconds"`
	Error        string `json:"error,omitempty"`
}

func (cmd *notifyTestCommand) run(ctx context.Context) error {
	if cmd.sender.unread != nil {
		return cmd.sender.unread
	}
	if len(cmd.sender.sender.Names()) == 0 {
		hint := "set NOTIFICATION_EMAIL or NOTIFICATION_WEBHOOK, or write notifications.channels into pgmedic.yaml"
		if !cmd.cfg.Notifications.Enabled && cmd.cfg.HasChannels() {
			hint = "notifications.enabled (NOTIFICATION_ENABLED) is false"
		}
		return pgmedic.Errorf(pgmedic.KindUsage, hint, "there is no channel to test")
	}
	e, err := notify.Sample(cmd.event, cmd.now())
	if err != nil {
		return err
	}
	results, err := cmd.sender.sender.Test(ctx, cmd.channels, e)
	if results == nil {
		return err
	}
	rows := []notifyTestRow{}
	for _, r := range results {
		row := notifyTestRow{Result: r, Milliseconds: r.Took.Milliseconds()}
		if r.Err != nil {
			row.Error = words.OneLine(r.Err.Error())
		}
		rows = append(rows, row)
	}
	if cmd.global.json {
		if jsonErr := cmd.printJSON(map[string]any{"messages": rows}); jsonErr != nil {
			return jsonErr
		}
		return err
	}
	cmd.print(rows)
	return err
}

func (cmd *notifyTestCommand) print(rows []notifyTestRow) {
	p := cmd.paint(cmd.stdoutTTY)
	for _, r := range rows {
		switch {
		case r.Err != nil:
			cmd.wrapf("%s %s (%s): %s\n", p.bad("failed"), r.Channel, r.Type, cmd.value(r.Error))
		case !cmd.global.quiet:
			cmd.wrapf("%s   %s (%s): %s in %s\n", p.good("sent"), r.Channel, r.Type, strings.Join(r.Events, ", "), words.Duration(r.Took))
		}
	}
}

// checkNotifications tries, without sending anything, whether each channel's secrets can be
// read and its server's name leads to where it may, and whether the addresses of pings that
// are written out may be reached.
func (cmd *checkCommand) checkNotifications(ctx context.Context, l *checklist) {
	n, err := newNotifier(cmd.job, "check")
	if err != nil {
		l.fail("notifications", err)
		return
	}
	for _, name := range []string{"backup", "copy", "verify", "drill", "prune", walJob} {
		place := n.cfg.Written("pings." + name)
		if place == "" || n.secrets != nil && n.secrets.Scheme(place) != "" { // else it is read when it is used
			continue
		}
		if err := n.sender.CheckPing(name, place); err != nil {
			l.fail("notifications", err)
		}
	}
	if n.ready(ctx); n.unread != nil {
		l.fail("notifications", n.unread)
		return
	}
	names := n.sender.Names()
	switch {
	case len(names) > 0:
	case !cmd.cfg.Notifications.Enabled && cmd.cfg.HasChannels():
		l.add("notifications", pgmedic.OutcomeSkipped, "switched off: notifications.enabled is false", "")
		return
	default:
		l.add("notifications", pgmedic.OutcomeSkipped, "no channel is configured: failures of jobs are not reported", "docs/notifications.md shows how")
		return
	}
	for _, name := range names {
		if err := n.sender.Check(ctx, name); err != nil {
			l.fail("notifications", err)
			continue
		}
		l.ok("notifications", "channel %s is configured and its host is known; nothing was sent: `pgmedic notify test` sends a message", name)
	}
	if waiting, err := n.sender.Waiting(); err != nil {
		l.fail("notifications", err)
	} else if waiting > 0 {
		l.add("notifications", pgmedic.OutcomeWarn, fmt.Sprintf("%s could not be sent yet", words.Plural(waiting, "message")), "the next job sends them")
	}
}
