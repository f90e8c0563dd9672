package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/words"
)

// scheduleInstallCommand installs the plan for cron or for systemd.
type scheduleInstallCommand struct {
	planner
	// systemd is true for units, false for the crontab.
	systemd bool
	dryRun  bool
	cron    schedule.CrontabOptions
	folder  unitFolder
	runAs   string
}

// scheduleUninstallCommand takes what was installed away again.
type scheduleUninstallCommand struct {
	planner
	dryRun  bool
	folders []unitFolder
}

func scheduleInstallCLI(e *env) *cobra.Command {
	var useCron, useSystemd, user, dryRun bool
	var mailTo, zone, runAs string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the schedules for cron or systemd",
		Long: `Installs the schedules of this configuration, or the default plan where it has none.
Jobs are started with the absolute paths of this program and of the configuration and
.env files. It shows what changes and asks.

With cron it changes the crontab of the account that runs it: a block between two marked
lines, after all others, which stay as they are. If somebody else changes the crontab
meanwhile, nothing is written (exit code 14). With systemd it writes a service and a
timer for each schedule and enables the timers. With wal.stream it also installs a
service that runs pgmedic wal stream and is started again whenever it ends. cron can't
run that.

Without --cron and --systemd it takes systemd where that runs the machine. It refuses to
install while settings come from this shell's environment, which jobs do not see.`,
		Example: `  pgmedic schedule install
  pgmedic --env-file /app/.env schedule install --cron --yes
  pgmedic schedule install --systemd --run-as pgmedic`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			if useCron && (useSystemd || runAs != "") || (useSystemd || user && !useCron) && (mailTo != "" || zone != "") {
				return pgmedic.Errorf(pgmedic.KindUsage, "--mailto and --zone go with --cron, --run-as with --systemd", "flags that exclude each other")
			}
			if user && runAs != "" {
				return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--user and --run-as together")
			}
			p, err := newPlanner(j, zone)
			if err != nil {
				return err
			}
			command := &scheduleInstallCommand{
				planner: p, systemd: useSystemd || !useCron && mailTo == "" && zone == "" && systemdRuns(), dryRun: dryRun,
				cron: schedule.CrontabOptions{MailTo: mailTo}, runAs: runAs,
			}
			if command.systemd {
				if command.folder, err = e.unitFolder(user); err != nil {
					return err
				}
			}
			return command.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&useCron, "cron", false, "install into this account's crontab")
	f.BoolVar(&useSystemd, "systemd", false, "install services and timers")
	f.BoolVar(&user, "user", false, "with systemd: into this account's own manager; a crontab is the account's anyway")
	f.StringVar(&runAs, "run-as", "", "with systemd: account that the jobs run as (default: root)")
	f.BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	addCronFlags(cmd, &mailTo, &zone)
	return cmd
}

func scheduleUninstallCLI(e *env) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the installed schedules of this configuration",
		Long: `Removes what schedule install wrote for this configuration: its block of this account's
crontab, and its services and timers, of the system and of this account. It shows what
goes and asks. Backups stay. Jobs that are running end by themselves; the service that
streams WAL is stopped, and its replication slot stays.`,
		Example: `  pgmedic schedule uninstall`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			p, err := newPlanner(j, "")
			if err != nil {
				return err
			}
			command := &scheduleUninstallCommand{planner: p, dryRun: dryRun, folders: e.unitFolders()}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be removed, and change nothing")
	return cmd
}

// systemdRuns reports whether systemd runs the machine, as sd_booted(3) does.
func systemdRuns() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// installResult is the JSON of schedule install and uninstall.
type installResult struct {
	// With is cron or systemd, Changes the lines of the difference.
	With    string          `json:"with,omitempty"`
	Changes []string        `json:"changes"`
	Done    bool            `json:"done"`
	Notes   []schedule.Note `json:"notes"`
}

func (cmd *scheduleInstallCommand) run(ctx context.Context) error {
	if cmd.host.Source() == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "`pgmedic init` writes a configuration", "there is neither a pgmedic.yaml nor a .env for jobs to read")
	}
	if names := cmd.foreign(); len(names) > 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "write them into "+cmd.host.Source()+" or the .env file beside it, or unset them, and run it again",
			"settings come from this shell's environment, which jobs do not see: %s", strings.Join(names, ", "))
	}
	path := cronPath
	if cmd.systemd {
		path = systemdPath
	} else if err := cmd.checkCredentials("cron"); err != nil {
		return err
	}
	if strays := cmd.strays(ctx, path); len(strays) > 0 {
		return cmd.strayError(strays)
	}
	if cmd.systemd {
		return cmd.installUnits(ctx)
	}
	return cmd.installCron(ctx)
}

// agree shows the changes, and asks. It reports whether to go on.
func (p planner) agree(ctx context.Context, changes []string, question, answer string, dryRun bool) (bool, error) {
	if !p.global.json {
		for _, c := range changes {
			p.printf("%s\n", p.value(c))
		}
	}
	if dryRun || len(changes) == 0 {
		return false, nil
	}
	return true, p.confirm(ctx, question, answer)
}

func (cmd *scheduleInstallCommand) installCron(ctx context.Context) error {
	for _, dir := range cmd.unitFolders() {
		files, err := dir.read()
		if err != nil {
			return err
		}
		if schedule.CompareUnits(withoutStream(files), cmd.host.Source(), cmd.plan, false) != schedule.InstalledNot {
			return pgmedic.Errorf(pgmedic.KindConflict, "run `pgmedic schedule uninstall` first", "the schedules are installed with systemd, in %s: jobs would run twice", dir.path)
		}
	}
	tab, err := findCrontab(cmd.environ)
	if err != nil {
		return err
	}
	before, err := tab.read(ctx)
	if err != nil {
		return err
	}
	around, err := schedule.Around(before, cmd.host.Source())
	if err != nil {
		return err
	}
	cmd.cron.Now = cmd.now()
	if cmd.cron.MailToAfter, err = mailToOf(around); err != nil {
		return err
	}
	block, notes, err := schedule.Crontab(cmd.plan, cmd.host, cmd.cron)
	if err != nil {
		return err
	}
	after, err := schedule.Replace(before, cmd.host.Source(), block)
	if err != nil {
		return err
	}
	notes = cmd.cronNotes(notes)
	changes := difference(before, after)
	result := installResult{With: "cron", Changes: orEmpty(changes), Notes: orEmpty(notes)}
	on, err := cmd.agree(ctx, changes, fmt.Sprintf("Install %s in the crontab of this account?", words.Plural(len(cmd.plan), "schedule")), "install", cmd.dryRun)
	if err != nil {
		return err
	}
	if on {
		if err := tab.replace(ctx, before, after); err != nil {
			return err
		}
		result.Done = true
	}
	watch := "cron mails the output of a job that fails, if this machine can send mail"
	if cmd.cron.MailTo == "" && around.MailsNobody() {
		watch = "the MAILTO of this crontab is empty: cron throws the output of failed jobs away; --mailto names an address"
	}
	return cmd.tellInstalled(result, watch)
}

// mailToOf returns what MAILTO has to be set to for lines below a block to be as they were:
// the crontab's, or the account's name, to which cron mails without one.
func mailToOf(e schedule.Environment) (string, error) {
	if e.MailSet && e.MailTo != "" {
		return e.MailTo, nil
	}
	if e.MailSet {
		return `""`, nil
	}
	account, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find the name of this account: %w", err)
	}
	return account.Username, nil
}

// replace writes a crontab in place of the one that was read, if it is still that one, and
// reads it back. Where the writing fails the error says which of the two is there.
func (c crontabFile) replace(ctx context.Context, before, after string) error {
	now, err := c.read(ctx)
	if err != nil {
		return err
	}
	if now != before {
		return pgmedic.Errorf(pgmedic.KindConflict, "run it again", "the crontab was changed meanwhile; nothing was written")
	}
	if err := c.write(ctx, after); err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, c.stateAfter(ctx, before, after), "write the crontab: %w", err)
	}
	if now, err = c.read(ctx); err != nil {
		return err
	}
	if now != after {
		return pgmedic.Errorf(pgmedic.KindFailed, "look at `crontab -l`", "the crontab is not what was written")
	}
	return nil
}

// tellInstalled ends an installation.
func (cmd *scheduleInstallCommand) tellInstalled(r installResult, watch string) error {
	if cmd.global.json {
		return cmd.printJSON(r)
	}
	cmd.tellNotes(r.Notes)
	switch {
	case r.Done:
		what := words.Plural(len(cmd.plan), "schedule")
		if cmd.systemd {
			what = cmd.planWords()
		}
		cmd.wrapf("%s %s with %s\n", cmd.paint(cmd.stdoutTTY).good("installed"), what, r.With)
		if !cmd.global.quiet {
			fmt.Fprintf(cmd.stderr, "%s; `pgmedic schedule list` shows the next runs\n", watch)
		}
	case len(r.Changes) == 0:
		cmd.wrapf("nothing to change: the schedules are installed with %s\n", r.With)
	}
	cmd.tellDefault()
	return nil
}

// difference returns the lines that a text loses and gains, with - and + before them. What
// both have, in this order, is left out.
func difference(before, after string) (lines []string) {
	old, made := strings.Split(strings.TrimSuffix(before, "\n"), "\n"), strings.Split(strings.TrimSuffix(after, "\n"), "\n")
	for _, l := range old {
		if l != "" && !slices.Contains(made, l) {
			lines = append(lines, "- "+l)
		}
	}
	for _, l := range made {
		if l != "" && !slices.Contains(old, l) {
			lines = append(lines, "+ "+l)
		}
	}
	if len(lines) == 0 && before != after {
		lines = append(lines, "  the same lines, in another order")
	}
	return lines
}

func (cmd *scheduleUninstallCommand) run(ctx context.Context) error {
	var changes []string
	var before, after string
	tab, err := findCrontab(cmd.environ)
	hasCron := err == nil
	if hasCron {
		if before, err = tab.read(ctx); err != nil {
			return err
		}
		if after, err = schedule.Replace(before, cmd.host.Source(), ""); err != nil {
			return err
		}
		changes = difference(before, after)
	}
	gone := make([][]string, len(cmd.folders))
	for i, dir := range cmd.folders {
		files, err := dir.read()
		if err != nil {
			return err
		}
		for _, f := range files {
			if ours, _, _ := schedule.UnitOf(f.Text, cmd.host.Source()); ours {
				gone[i] = append(gone[i], f.Name)
				changes = append(changes, "- "+dir.file(f.Name))
			}
		}
	}
	result := installResult{Changes: orEmpty(changes), Notes: []schedule.Note{}}
	on, err := cmd.agree(ctx, changes, "Remove the schedules of this configuration?", "remove", cmd.dryRun)
	if err != nil {
		return err
	}
	if on {
		if before != after {
			if err := tab.replace(ctx, before, after); err != nil {
				return err
			}
		}
		for i, dir := range cmd.folders {
			if err := dir.remove(ctx, cmd.environ, gone[i]); err != nil {
				return err
			}
		}
		result.Done = true
	}
	if slices.ContainsFunc(gone, func(names []string) bool { return slices.Contains(names, schedule.StreamUnit) }) {
		result.Notes = append(result.Notes, streamNote(slotStays))
	}
	if cmd.global.json {
		return cmd.printJSON(result)
	}
	cmd.tellNotes(result.Notes)
	if !hasCron {
		fmt.Fprintln(cmd.stderr, "the crontab was not checked: no program crontab was found in PATH")
	}
	switch {
	case result.Done:
		cmd.wrapf("%s\n", cmd.paint(cmd.stdoutTTY).good("removed"))
	case len(changes) == 0:
		cmd.wrapf("nothing is installed for %s\n", cmd.value(cmd.host.Source()))
	}
	return nil
}
