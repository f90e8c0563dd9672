package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/words"
)

// foresee says what a restore would do. What would stop it makes the exit code
// that the restore would have.
func (cmd *restoreCommand) foresee(ctx context.Context, o swap.Options) error {
	p, err := swap.Foresee(ctx, o)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(p.Checks, func(c pgmedic.Check) bool { return c.Name == "disk" }) {
		p.Checks = append(p.Checks, foreseeSpace(ctx, p))
	}
	switch {
	case cmd.global.json:
		err = cmd.printJSON(p)
	case !cmd.global.quiet:
		cmd.printPreview(p)
	}
	if err != nil {
		return err
	}
	return p.Obstacle()
}

func (cmd *restoreCommand) printPreview(p *restore.Preview) {
	what := "would be restored into a new database " + words.Clean(p.Database)
	if p.Swap {
		what = "would replace database " + words.Clean(p.Database)
	}
	cmd.wrapf("%s: backup %s %s\n", cmd.paint(cmd.stdoutTTY).bold("nothing was made"), p.BackupID, what)
	cmd.fields("to fetch", words.Bytes(p.FetchBytes), "database", words.Bytes(p.DatabaseBytes)+" when it was backed up", "steps", strings.Join(p.Steps, ", "), "globals", globalsWords(p.Globals))
	cmd.printChecks(p.Checks)
	for _, name := range p.Standbys {
		cmd.wrapf("  %-14s %s\n", "standby", words.Clean(name))
	}
	for _, o := range p.Outside {
		cmd.wrapf("  %-14s %s\n", words.Clean(o.Kind), cmd.fit(words.Clean(o.Name+": "+o.Note), 17))
	}
}

// foreseeSpace compares free space with the database's size, where the server's
// folder is one of this host.
func foreseeSpace(ctx context.Context, p *restore.Preview) pgmedic.Check {
	c := pgmedic.Check{Name: "disk", Outcome: pgmedic.OutcomeSkipped, Detail: "the server's free space can't be known from here"}
	if _, err := os.Stat(p.DataDirectory); p.DataDirectory == "" || err != nil {
		return c
	}
	usage, err := disk.UsageWithContext(ctx, p.DataDirectory)
	if err != nil {
		return c
	}
	c.Outcome = pgmedic.OutcomeOK
	if int64(usage.Free) < p.DatabaseBytes {
		c.Outcome, c.Hint = pgmedic.OutcomeWarn, "free space there first"
	}
	c.Detail = fmt.Sprintf("%s free in %s of this host", words.Bytes(int64(usage.Free)), p.DataDirectory)
	return c
}
