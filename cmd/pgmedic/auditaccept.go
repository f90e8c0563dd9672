package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/words"
)

// auditAcceptCommand records that anchors are gone from a store for a reason that is known.
type auditAcceptCommand struct {
	// auditVerifyCommand reads the log and its anchors.
	auditVerifyCommand
	reason string
}

func auditAcceptCLI(e *env) *cobra.Command {
	var name, reason string
	cmd := &cobra.Command{
		Use:   "accept",
		Short: "Accept that anchors are gone from a store, with a reason",
		Long: `Records in the audit log which anchors are gone from a store, who accepts that, and
why, such as a store that was emptied on purpose. audit verify then exits with 0 again
and shows what was accepted. Anchors that go later are found as before, and so is any
other problem: a log that was changed or cut can't be accepted.`,
		Example: `  pgmedic audit accept --store offsite --reason 'the bucket was emptied after the test'`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return pgmedic.Errorf(pgmedic.KindUsage, "give --store, by its place or the name of a copy", "say in which store anchors are gone")
			}
			if strings.TrimSpace(reason) == "" {
				return pgmedic.Errorf(pgmedic.KindUsage, "for example, give --reason 'the bucket was emptied after the test'", "an acceptance needs a reason")
			}
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &auditAcceptCommand{auditVerifyCommand{job: j, places: stores{j}, stores: []string{name}}, reason}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&name, "store", "", "the store that anchors are gone from, by its place or the name of a copy")
	cmd.Flags().StringVar(&reason, "reason", "", "why they are gone")
	return cmd
}

func (cmd *auditAcceptCommand) run(ctx context.Context) error {
	log, err := cmd.openedLog()
	if err != nil {
		return err
	}
	a, err := cmd.readAnchors(ctx)
	if err != nil {
		return err
	}
	if a.unread != nil { // what can't be read is not gone
		return pgmedic.Errorf(pgmedic.KindOf(a.unread), pgmedic.HintOf(a.unread), "nothing was accepted: %w", a.unread)
	}
	report, err := log.Verify(ctx, audit.VerifyOptions{Anchors: a.found, Stored: a.stored, Stores: a.read, ReadAt: a.readAt})
	if err != nil {
		return err
	}
	if len(report.Problems) > len(report.Lost) {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "`pgmedic audit verify` lists all problems; docs/audit.md#a-damaged-log", "nothing was accepted: the log has other problems than anchors that are gone")
	}
	if len(report.Lost) == 0 {
		return pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic audit verify` lists what is wrong", "no anchor is gone from this store")
	}
	// A store can have had several places under one name.
	var places []string
	for _, lost := range report.Lost {
		if !slices.Contains(places, lost.Place) {
			places = append(places, lost.Place)
		}
	}
	if !cmd.global.quiet && !cmd.global.json {
		newest := report.Lost[len(report.Lost)-1]
		cmd.wrapf("%s\n", cmd.value(fmt.Sprintf("%s gone from %s, the newest of record %d, of %s", words.Plural(len(report.Lost), "anchor is", "anchors are"),
			strings.Join(places, ", "), newest.Seq, newest.At.UTC().Format("2006-01-02 15:04Z"))))
	}
	if err := cmd.confirm(ctx, "Accept that they are gone? The audit log records it.", "accept"); err != nil {
		return err
	}
	for _, place := range places {
		var lost []audit.LostAnchor
		for _, one := range report.Lost {
			if one.Place == place {
				lost = append(lost, one)
			}
		}
		if err := log.Accept(ctx, audit.Entry{Actor: actorOf(cmd.env), Run: audit.NewRun(), Reason: cmd.reason}, lost); err != nil {
			return err
		}
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"accepted": report.Lost, "reason": cmd.reason})
	}
	if !cmd.global.quiet {
		cmd.wrapf("%s; `pgmedic audit verify` shows it\n", cmd.paint(cmd.stdoutTTY).good("accepted"))
	}
	return nil
}
