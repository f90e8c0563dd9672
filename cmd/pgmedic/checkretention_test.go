package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

// TestCheckRetention: what deletes nothing is said, and what is to delete and is started
// by nothing is a warning.
func TestCheckRetention(t *testing.T) {
	for name, test := range map[string]struct {
		file    string
		jobs    []schedule.Job
		planErr error
		outcome pgmedic.Outcome
		detail  string
	}{
		"nothing runs it":   {"retention: {last: 4}\n", nil, nil, pgmedic.OutcomeWarn, "keeps each for 30d; nothing that pgmedic can see"},
		"another job":       {"retention: {last: 4}\n", []schedule.Job{schedule.JobBackup}, nil, pgmedic.OutcomeWarn, "nothing that pgmedic can see"},
		"a schedule":        {"retention: {last: 4}\n", []schedule.Job{schedule.JobBackup, schedule.JobPrune}, nil, pgmedic.OutcomeOK, "pruned by schedules"},
		"unread schedules":  {"retention: {last: 4}\n", nil, errors.New("no"), pgmedic.OutcomeSkipped, "not checked"},
		"after each backup": {"retention:\n  daily: 12d\n  monthly: 1y\n  after_backup: true\n", nil, nil, pgmedic.OutcomeOK, "keeps one a day for 12d, one a month for 1y; pruned after each"},
		"nothing at all":    {"retention: {last: 4}\n", nil, nil, pgmedic.OutcomeOK, "only `pgmedic prune --yes` deletes"},
		"without end":       {"retention:\n  days: 0\n", nil, nil, pgmedic.OutcomeOK, "every backup without end"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "pgmedic.yaml")
			if err := os.WriteFile(file, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(config.Options{Dir: dir, File: file})
			if err != nil {
				t.Fatal(err)
			}
			cmd := &checkCommand{job: job{cfg: cfg}, planErr: test.planErr}
			cmd.plan.byDefault = name == "nothing at all"
			for _, j := range test.jobs {
				cmd.plan.plan = append(cmd.plan.plan, schedule.Entry{Job: j})
			}
			l := &checklist{}
			cmd.checkRetention(l)
			if len(l.checks) != 1 || l.checks[0].Outcome != test.outcome || !strings.Contains(l.checks[0].Detail, test.detail) {
				t.Errorf("%+v", l.checks)
			}
		})
	}
}
