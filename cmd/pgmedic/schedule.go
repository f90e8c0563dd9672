package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/terminal"
)

// planner has the schedules of the configuration, and what they are run with.
type planner struct {
	job
	// plan is the configured one; where none is configured it is the default one, and
	// byDefault is true.
	plan      []schedule.Entry
	byDefault bool
	host      schedule.Host
}

// newPlanner reads the plan. The zone is that of cron's machine, or empty for this one's.
func newPlanner(j job, zone string) (planner, error) {
	p := planner{job: j, plan: j.cfg.Schedules}
	machine, err := machineZone("/etc/localtime")
	if zone != "" {
		machine, err = loadZone(zone)
	}
	if err != nil {
		return p, err
	}
	program, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("find the path of this program: %w", err)
	}
	p.host = schedule.Host{Program: program, Config: j.cfg.File, EnvFile: j.cfg.EnvFile, Name: hostName(), Zone: machine}
	if len(p.plan) == 0 {
		p.plan, p.byDefault = schedule.Default(machine, j.cfg.Notifications.Enabled && j.cfg.HasChannels()), true
	}
	return p, nil
}

// loadZone returns the zone that a flag names.
func loadZone(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || strings.EqualFold(name, "local") {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "write UTC, or a name such as Europe/Berlin", "--zone is not a known time zone")
	}
	return zone, nil
}

// machineZone returns the zone of the machine's clock, by which cron goes, whatever TZ
// this process has. It has no name where the link to it tells none.
func machineZone(link string) (*time.Location, error) {
	data, err := os.ReadFile(link)
	if os.IsNotExist(err) {
		return time.UTC, nil // as the C library takes it
	}
	if err != nil {
		return nil, fmt.Errorf("read the machine's time zone: %w", err)
	}
	if target, err := filepath.EvalSymlinks(link); err == nil {
		if _, name, ok := strings.Cut(filepath.ToSlash(target), "/zoneinfo/"); ok {
			switch name {
			case "Etc/UTC", "UTC", "Etc/UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal":
				return time.UTC, nil
			}
			if zone, err := time.LoadLocation(name); err == nil {
				return zone, nil
			}
		}
	}
	zone, err := time.LoadLocationFromTZData("Local", data)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "name it with --zone", "the machine's time zone can't be read: %w", err)
	}
	return zone, nil
}

func scheduleCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "Run jobs on schedule by cron, systemd or Kubernetes",
		Long: `pgmedic starts nothing by itself. These commands hand the schedules of the
configuration over to cron, systemd or Kubernetes, and show when they run.

Without schedules: in the configuration file, for example with a .env file alone, the
plan is a backup every night at 02:00, a prune every day at 05:00, a report every Monday
at 06:00, and a clean-up every Saturday at 06:30, by this machine's clock.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(scheduleListCLI(e), scheduleCronCLI(e), scheduleSystemdCLI(e), scheduleKubernetesCLI(e), scheduleInstallCLI(e), scheduleUninstallCLI(e))
	for _, c := range cmd.Commands() {
		withoutSecrets(c) // they are the jobs', which alone may have them
	}
	return cmd
}

// scheduleListCommand shows when the jobs run.
type scheduleListCommand struct {
	planner
	// next is how many runs of each are shown, zone the clock to show them by, or nil for
	// that of each schedule.
	next int
	zone *time.Location
}

func scheduleListCLI(e *env) *cobra.Command {
	var next int
	var zone string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the schedules and when they run next",
		Long: `Shows when each job runs next, by its own clock and in UTC, and what is surprising about
it in the next 400 days: times that a change of the clock skips or repeats, and days of
which either one suffices. It does not check whether anything is installed; pgmedic
check does.`,
		Example: `  pgmedic schedule list
  pgmedic schedule list --next 1 --zone Europe/Berlin`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			p, err := newPlanner(j, "")
			if err != nil {
				return err
			}
			command := &scheduleListCommand{planner: p, next: next}
			if zone != "" {
				if command.zone, err = loadZone(zone); err != nil {
					return err
				}
			}
			if next < 1 || next > 1000 {
				return pgmedic.Errorf(pgmedic.KindUsage, "write a number from 1 to 1000", "--next is out of range")
			}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().IntVar(&next, "next", 5, "how many runs of each to show")
	cmd.Flags().StringVar(&zone, "zone", "", "time zone to show them in, such as Europe/Berlin (default: that of each schedule)")
	return cmd
}

// scheduleRow is one schedule in the JSON of schedule list.
type scheduleRow struct {
	Name      string      `json:"name"`
	Job       string      `json:"job"`
	At        string      `json:"at"`
	Timezone  string      `json:"timezone"`
	Arguments []string    `json:"arguments"`
	Missed    string      `json:"missed"`
	Next      []time.Time `json:"next"`
}

func (cmd *scheduleListCommand) run(context.Context) error {
	now := cmd.now()
	rows, cells := []scheduleRow{}, [][]string{}
	for _, e := range cmd.plan {
		row := scheduleRow{
			Name: e.Name, Job: string(e.Job), At: e.Times.String(), Timezone: e.Times.Zone().String(),
			Arguments: e.Command(), Missed: string(e.MissedRule()), Next: []time.Time{},
		}
		zone := e.Times.Zone()
		if cmd.zone != nil {
			zone = cmd.zone
		}
		for at := now; len(row.Next) < cmd.next; {
			if at = e.Times.Next(at); at.IsZero() {
				break
			}
			row.Next = append(row.Next, at.UTC())
			cell := []string{"", "", "", at.In(zone).Format("Mon 2006-01-02 15:04 MST"), at.UTC().Format("2006-01-02 15:04Z")}
			if len(row.Next) == 1 {
				cell[0], cell[1], cell[2] = e.Name, strings.Join(e.Command(), " "), e.Times.String()
			}
			cells = append(cells, cell)
		}
		rows = append(rows, row)
	}
	notes := schedule.Notes(cmd.plan, now)
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"default_plan": cmd.byDefault, "schedules": rows, "notes": orEmpty(notes), "wal_stream": cmd.cfg.WAL.Stream})
	}
	printTable(cmd.env, []string{"SCHEDULE", "JOB", "AT", "NEXT", "UTC"}, cells, terminal.TableOptions{Shrink: []int{}, Move: []int{1, 4, 2}})
	for _, n := range notes {
		cmd.wrapf("%s: %s\n", n.Entry, n.Text)
	}
	if cmd.cfg.WAL.Stream {
		cmd.wrapf("%s: runs all the time\n", schedule.StreamName)
	}
	cmd.tellDefault()
	return nil
}

// tellDefault says that the plan is not a configured one.
func (p planner) tellDefault() {
	if p.byDefault && !p.global.quiet {
		fmt.Fprintln(p.stderr, "no schedules are configured: this is the default plan; write schedules: into pgmedic.yaml for another")
	}
}

// tellNotes says what is not done as the plan says.
func (p planner) tellNotes(notes []schedule.Note) {
	for _, n := range notes {
		fmt.Fprintf(p.stderr, "schedule %s: %s\n", n.Entry, p.value(n.Text))
	}
}

// foreign returns the names of settings that this process has from its environment,
// which jobs do not have.
func (p planner) foreign() (names []string) {
	for _, v := range p.cfg.Effective() {
		if v.Origin.Source == config.SourceEnvironment || v.Origin.Source == config.SourceLibpq {
			names = append(names, v.Origin.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// warnForeign says which settings and programs of this shell jobs will not have.
func (p planner) warnForeign(ctx context.Context, jobsPath string) {
	if strays := p.strays(ctx, jobsPath); len(strays) > 0 {
		err := p.strayError(strays)
		fmt.Fprintf(p.stderr, "%s: %s\n", p.value(err.Error()), p.value(pgmedic.HintOf(err)))
	}
	if names := p.foreign(); len(names) > 0 {
		fmt.Fprintf(p.stderr, "jobs do not see settings of this shell's environment: write %s into the .env file\n", strings.Join(names, ", "))
	}
}

// scheduleCronCommand prints the plan as a crontab.
type scheduleCronCommand struct {
	planner
	options schedule.CrontabOptions
}

func scheduleCronCLI(e *env) *cobra.Command {
	var o schedule.CrontabOptions
	var zone string
	cmd := &cobra.Command{
		Use:   "cron",
		Short: "Print the schedules as a crontab",
		Long: `Prints the lines that schedule install --cron writes. cron goes by the machine's clock:
times of another time zone are converted where the two clocks differ by the same time
all year, and refused otherwise. A job's output is printed, and mailed by cron, only if
the job fails. cron can't run pgmedic wal stream; it says what can.`,
		Example: `  pgmedic schedule cron
  pgmedic schedule cron --run-as pgmedic --mailto dba@clinic.example > /etc/cron.d/pgmedic`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			p, err := newPlanner(j, zone)
			if err != nil {
				return err
			}
			command := &scheduleCronCommand{planner: p, options: o}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.RunAs, "run-as", "", "add the column with this account that files in /etc/cron.d have")
	addCronFlags(cmd, &o.MailTo, &zone)
	return cmd
}

func addCronFlags(cmd *cobra.Command, mailTo, zone *string) {
	cmd.Flags().StringVar(mailTo, "mailto", "", "address that cron mails the output of failed jobs to (default: the account)")
	cmd.Flags().StringVar(zone, "zone", "", "time zone of the machine whose cron it is (default: this machine's)")
}

func (cmd *scheduleCronCommand) run(ctx context.Context) error {
	if err := cmd.checkCredentials("cron"); err != nil {
		return err
	}
	cmd.options.Now = cmd.now()
	text, notes, err := schedule.Crontab(cmd.plan, cmd.host, cmd.options)
	if err != nil {
		return err
	}
	notes = cmd.cronNotes(notes)
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"crontab": text, "notes": orEmpty(notes)})
	}
	cmd.printf("%s", text)
	cmd.tellNotes(notes)
	cmd.warnForeign(ctx, cronPath)
	cmd.tellDefault()
	return nil
}

// scheduleSystemdCommand writes the plan as units of systemd into a folder.
type scheduleSystemdCommand struct {
	planner
	output  string
	options schedule.UnitOptions
}

func scheduleSystemdCLI(e *env) *cobra.Command {
	var output string
	var o schedule.UnitOptions
	cmd := &cobra.Command{
		Use:   "systemd",
		Short: "Write the schedules as services and timers of systemd",
		Long: `Writes the files that schedule install --systemd installs, a service and a timer for
each schedule, and with wal.stream a service for the stream of WAL, into a folder that
is made. Times of a zone other than UTC are kept in that zone; it says which runs
systemd leaves out where that clock changes.`,
		Example: `  pgmedic schedule systemd --output units --run-as pgmedic`,
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
			if output == "" {
				return pgmedic.Errorf(pgmedic.KindUsage, "name a folder that does not exist yet", "--output is missing")
			}
			command := &scheduleSystemdCommand{planner: p, output: e.absolute(output, ""), options: o}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "folder to make and to write to")
	cmd.Flags().BoolVar(&o.User, "user", false, "units for a user's own manager, without a sandbox")
	cmd.Flags().StringVar(&o.RunAs, "run-as", "", "account that the jobs run as (default: root)")
	return cmd
}

func (cmd *scheduleSystemdCommand) run(ctx context.Context) error {
	files, notes, err := cmd.units(cmd.options)
	if err != nil {
		return err
	}
	if err := os.Mkdir(cmd.output, 0o755); err != nil {
		if os.IsExist(err) {
			return pgmedic.Errorf(pgmedic.KindConflict, "name another folder", "the folder %s exists already", cmd.output)
		}
		return pgmedic.Errorf(pgmedic.KindUsage, "name a folder in one that exists and that you may write to", "make the folder of --output: %w", err)
	}
	names := []string{}
	for _, f := range files {
		path := filepath.Join(cmd.output, f.Name)
		if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
			return fmt.Errorf("write a unit: %w", err)
		}
		names = append(names, path)
		if !cmd.global.json {
			cmd.printf("%s\n", cmd.value(path))
		}
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"files": names, "notes": orEmpty(notes)})
	}
	cmd.tellNotes(notes)
	cmd.warnForeign(ctx, systemdPath)
	cmd.tellDefault()
	return nil
}

// units are the plan's units, for this configuration.
func (p planner) units(o schedule.UnitOptions) ([]schedule.File, []schedule.Note, error) {
	o.Now, o.Writable, o.Stream = p.now(), p.writable(), p.cfg.WAL.Stream
	o.StateHome = p.cfg.Report.History == "" || p.cfg.Audit.File == "" || p.cfg.HasChannels() && p.cfg.Notifications.Dir == "" || p.cfg.WAL.Sync && p.cfg.WAL.Spool == ""
	for _, c := range p.cfg.Credentials() {
		o.Credentials = append(o.Credentials, c.Name)
	}
	o.SharedTmp = strings.HasPrefix(p.cfg.Database.Host, "/tmp")
	return schedule.Units(p.plan, p.host, o)
}

// writable returns the folders that jobs of this configuration write into.
func (p planner) writable() []string {
	c := p.cfg
	dirs := []string{c.Report.Dir, c.Drill.ScratchDir, c.Backup.Place().Dir, c.Notifications.Dir, c.WAL.Spool}
	for _, one := range c.Copies {
		dirs = append(dirs, one.Place().Dir)
	}
	for _, file := range []string{c.Log.File, c.Report.History, c.Audit.File, c.Audit.KeyFile} {
		if file != "" && file != historyOff {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	for _, to := range c.Audit.Forward {
		if file, named := strings.CutPrefix(to, "file:"); named {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	for _, e := range p.plan {
		dirs = append(dirs, e.Folders()...)
	}
	slices.Sort(dirs)
	return slices.DeleteFunc(slices.Compact(dirs), func(dir string) bool { return dir == "" })
}
