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
	"github.com/pgmedic/pgmedic/internal/words"
)

// foresee says what a restore would do. What would stop it makes the exit code
// that the restore would have.
func (a *app) foresee(ctx context.Context, o restore.SwapOptions) error {
	p, err := restore.Foresee(ctx, o)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(p.Checks, func(c pgmedic.Check) bool { return c.Name == "disk" }) {
		p.Checks = append(p.Checks, foreseeSpace(ctx, p))
	}
	switch {
	case a.global.json:
		err = a.printJSON(p)
	case !a.global.quiet:
		a.printPreview(p)
	}
	if err != nil {
		return err
	}
	return p.Obstacle()
}

func (a *app) printPreview(p *restore.Preview) {
	what := "would be restored into a new database " + words.Clean(p.Database)
	if p.Swap {
		what = "would replace database " + words.Clean(p.Database)
	}
	a.printf("%s: backup %s %s\n", a.paint(a.stdoutTTY).bold("nothing was made"), p.BackupID, what)
	a.fields("to fetch", words.Bytes(p.FetchBytes), "database", words.Bytes(p.DatabaseBytes)+" when it was backed up", "steps", strings.Join(p.Steps, ", "), "globals", globalsWords(p.Globals))
	a.printChecks(p.Checks)
	for _, name := range p.Standbys {
		a.printf("  %-14s %s\n", "standby", words.Clean(name))
	}
	for _, o := range p.Outside {
		a.printf("  %-14s %s\n", words.Clean(o.Kind), a.fit(words.Clean(o.Name+": "+o.Note), 17))
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
