package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// app is one run of the program: its streams, its environment, and the flags
// that every command has.
type app struct {
	version        string
	stdin          io.Reader
	stdout, stderr io.Writer
	// rawOut and rawErr are the same, for what cleans its values itself and has
	// more than text to write: a report, the chooser, the line of progress.
	rawOut, rawErr io.Writer
	// key is what the colours of this run are marked with.
	key                            string
	stdinTTY, stdoutTTY, stderrTTY bool
	// stdoutWidth and stderrWidth return a terminal's columns now, or 0.
	stdoutWidth, stderrWidth func() int
	environ                  []string
	dir                      string
	now                      func() time.Time

	global globalFlags
	cfg    *config.Config
	// seal and wraps say how backups are sealed; prepareBackup sets them.
	seal  seal.Options
	wraps []backup.Wrap
	log   *slog.Logger
	// logSteps is true where standard error is for records, not for people.
	logSteps bool
	// screen keeps log lines and the line of progress apart.
	screen screen
}

type globalFlags struct {
	config, envFile string
	json            bool
	noColor, quiet  bool
	yes, showData   bool
}

// run parses the arguments, runs a command, and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.cleanStreams()
	root := a.rootCommand() //nolint:contextcheck // the demo's server outlives the context of its start and is stopped
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		err = interrupted(err)
	}
	var silent *statusError
	if errors.As(err, &silent) {
		return silent.code
	}
	if a.global.json || asksJSON(args) {
		a.printJSONError(err)
	} else {
		a.printError(err)
	}
	return exitCode(pgmedic.KindOf(err))
}

// interrupted keeps of the error of an interrupted run what is news beside the
// interrupt, such as that something could not be cleaned up.
func interrupted(err error) error {
	news, _ := beside(err)
	if news == nil {
		return errInterrupted
	}
	return pgmedic.Errorf(pgmedic.KindInterrupted, pgmedic.HintOf(news), "interrupted; %w", news)
}

// beside returns the part of an error that the interrupt did not cause, or nil,
// and whether that is all of it.
func beside(err error) (rest error, all bool) {
	if err == errInterrupted || err == context.Canceled { //nolint:errorlint // this very link of the chain
		return nil, false
	}
	switch e := err.(type) { //nolint:errorlint // this very link of the chain
	case interface{ Unwrap() []error }:
		parts, all := []error(nil), true
		for _, part := range e.Unwrap() {
			kept, whole := beside(part)
			all = all && whole
			parts = append(parts, kept)
		}
		if !all {
			return errors.Join(parts...), false
		}
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			if kept, all := beside(inner); !all {
				return kept, false
			}
		}
	}
	return err, true
}

// statusError ends the run with a code of its own and without a message, which
// has been printed.
type statusError struct{ code int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// printError prints an error on one line and, below it, what to do.
func (a *app) printError(err error) {
	paint := a.paint(a.stderrTTY)
	fmt.Fprintf(a.stderr, "%s %s\n", paint.bad("error:"), words.OneLine(err.Error()))
	if hint := pgmedic.HintOf(err); hint != "" {
		fmt.Fprintf(a.stderr, "%s %s\n", paint.dim("hint:"), words.OneLine(hint))
	}
	var unredacted interface{ Unredacted() string }
	if a.global.showData && errors.As(err, &unredacted) {
		fmt.Fprintf(a.stderr, "data: %s\n", cleanLines(unredacted.Unredacted()))
	}
}

// cleanLines leaves a text its lines, and nothing that drives a terminal: rows are
// somebody else's words.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = words.Clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// shownData prints the server's own words for what it refused of a backup, or is nil
// where nobody asked for them.
func (a *app) shownData() func(object, words string) {
	if !a.global.showData {
		return nil
	}
	return func(object, phrase string) {
		fmt.Fprintf(a.stderr, "data: %s: %s\n", words.Clean(object), cleanLines(phrase))
	}
}

// exitCode is the one place where errors become exit codes; docs/exit-codes.md
// and the help of pgmedic list them.
func exitCode(k pgmedic.Kind) int {
	switch k {
	case pgmedic.KindUsage:
		return 2
	case pgmedic.KindNotFound:
		return 10
	case pgmedic.KindIntegrity:
		return 11
	case pgmedic.KindUnreachable:
		return 12
	case pgmedic.KindNotConfirmed:
		return 13
	case pgmedic.KindConflict:
		return 14
	case pgmedic.KindDegraded:
		return 15
	case pgmedic.KindInterrupted:
		return 130
	case pgmedic.KindFailed:
	}
	return 1
}

const exitCodes = `Exit codes:
    0  done
    1  failed
    2  wrong usage, configuration or set-up
    3  the report found warnings (with --fail-on)
    4  the report found criticals (with --fail-on)
   10  nothing there: no such backup, database or table
   11  integrity failure: corrupt, truncated, or not what was recorded
   12  could not reach or read: network, server down, permission
   13  not confirmed
   14  the target exists or is in use, or another run holds the lock
   15  done, but something beside it failed
  130  interrupted
`

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "pgmedic",
		Short: "Back up PostgreSQL, prove the backups, restore without risk",
		Long: `pgmedic backs PostgreSQL up, proves that each backup restores, restores without
touching the live database until the copy is good, and reports on a server's
health. ` + "`pgmedic demo`" + ` shows all of it on a private server, with no configuration.

` + exitCodes,
		SilenceErrors: true, SilenceUsage: true,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Version = a.version // what --version prints, as `pgmedic version` does
	root.SetVersionTemplate("pgmedic {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	// Between words: where a terminal breaks a line it breaks words.
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", a.helpWidth())))
	f := root.PersistentFlags()
	f.StringVar(&a.global.config, "config", "", "configuration file (default: $PGMEDIC_CONFIG, else ./pgmedic.yaml if it is there)")
	f.StringVar(&a.global.envFile, "env-file", "", "file of environment variables (default: .env beside the configuration file)")
	f.BoolVar(&a.global.json, "json", false, "print the result as JSON")
	f.BoolVar(&a.global.noColor, "no-color", false, "no colours; NO_COLOR does the same")
	f.BoolVarP(&a.global.quiet, "quiet", "q", false, "no progress; print only what a script needs, such as ids")
	f.BoolVar(&a.global.yes, "yes", false, "answer every question with yes")
	f.BoolVar(&a.global.showData, "show-data-in-errors", false, "show the server's whole messages, which may quote rows, on this terminal")
	addSetting(root, "log-level", "log.level", "debug, info, warn or error (default: warn for text on standard error, else info)")
	addSetting(root, "log-format", "log.format", "text or json")
	addSetting(root, "log-file", "log.file", "file to log to (default: standard error)")
	root.AddCommand(
		a.demoCommand(), a.initCommand(), a.checkCommand(), a.backupCommand(), a.listCommand(), a.showCommand(),
		a.verifyCommand(), a.drillCommand(), a.copyCommand(), a.restoreCommand(), a.rollbackCommand(), a.pruneCommand(), a.holdCommand(), a.releaseCommand(), a.keysCommand(), a.reportCommand(), a.explainCommand(),
		a.configCommand(), a.versionCommand(),
	)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" { // as cobra makes it, it takes a word that is no shell for none
			cmd.Args, cmd.RunE = unknownCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	a.addCompletions(root)
	for _, cmd := range root.Commands() {
		wrapUsage(cmd)
		for _, below := range cmd.Commands() {
			wrapUsage(below)
		}
	}
	return root
}

// helpWidth is how wide a help text may be.
func (a *app) helpWidth() int {
	if width := a.stdoutWidth(); a.stdoutTTY && width > 0 {
		return max(min(width, 100), 60)
	}
	return 100
}

// unknownCommand refuses a word that is no command, and names the nearest.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see `pgmedic --help`"
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `pgmedic " + near[0] + "`?"
	}
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "unknown command %q", args[0])
}

// flagError gives cobra's complaints about flags a kind, and a hint that names
// the nearest flag for one that is not there.
func flagError(cmd *cobra.Command, err error) error {
	if invalid := invalidValue(cmd.CommandPath(), err); invalid != nil {
		return invalid
	}
	hint := "see `" + cmd.CommandPath() + " --help`"
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if name := unknown.GetSpecifiedName(); (name == "file" || name == "f") && cmd.Parent() == cmd.Root() {
			hint = "pgmedic reads its own backups, named by their ids (`pgmedic list`); " + catalog.ForeignDump
		} else if near := nearestFlag(cmd, name); near != "" {
			hint = "did you mean --" + near + "?"
		}
	}
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "%s: %w", cmd.CommandPath(), err)
}

// nearestFlag returns the flag that a misspelt one most likely means, or empty.
func nearestFlag(cmd *cobra.Command, name string) string {
	var names []string
	for _, f := range flagsOf(cmd) {
		names = append(names, f.Name)
	}
	return nearestOf(name, names)
}

// nearestOf returns the one that a misspelt name most likely means, or empty.
func nearestOf(name string, all []string) string {
	// cobra knows how to find the nearest of commands.
	names := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, one := range all {
		names.AddCommand(&cobra.Command{Use: one, Run: func(*cobra.Command, []string) {}})
	}
	if near := names.SuggestionsFor(name); len(near) > 0 && len(name) > 2 {
		return near[0]
	}
	return ""
}

// wrapUsage gives cobra's own complaints about arguments a kind and a hint.
func wrapUsage(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			hint := cmp.Or(pgmedic.HintOf(err), "see `"+cmd.CommandPath()+" --help`")
			return pgmedic.Errorf(pgmedic.KindUsage, hint, "%s: %w", cmd.CommandPath(), err)
		}
		return nil
	}
}

// noArgs refuses arguments.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("takes no name, and got %q", args[0])
	}
	return nil
}

// atMostOne refuses more than one argument.
func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("takes one name at most, and got %d", len(args))
	}
	return nil
}

// addConnection adds the flags that say how to reach the database.
func addConnection(cmd *cobra.Command) {
	addSetting(cmd, "url", "database.url", "connection URL, without a password")
	addSetting(cmd, "host", "database.host", "server's host or socket folder")
	addSetting(cmd, "port", "database.port", "server's port")
	addSetting(cmd, "user", "database.user", "role to connect as")
	addSetting(cmd, "server", "server", "name that backups of this server are filed under")
}

// addStore adds the flag that says where backups are.
func addStore(cmd *cobra.Command) {
	addSetting(cmd, "store", "backup.store", "where backups are: a folder, s3://bucket/prefix, or the name of a configured copy")
}

// load reads the configuration, flags included, and makes the logger.
func (a *app) load(cmd *cobra.Command) error {
	o := config.Options{File: a.global.config, EnvFile: a.global.envFile, Environ: a.environ, Dir: a.dir}
	o.Flags = append(o.Flags, changedSettings(cmd)...)
	cfg, err := config.Load(o)
	if err != nil {
		return err
	}
	a.cfg = cfg
	if err := a.checkMutes(); err != nil {
		return err
	}
	logs := cfg.Log
	if logs.File == "" && a.stderrTTY && cfg.Origin("log.format").Source == config.SourceFile {
		// The file is made for jobs, whose logs are collected; here sits a person.
		logs.Format = "text"
	}
	if a.log, err = a.logger(logs); err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		a.log.Warn(w)
	}
	// A person sees progress; a program that reads JSON gets it as records.
	a.logSteps = logs.Format == "json" && logs.File == ""
	return nil
}

func changedSettings(cmd *cobra.Command) []config.Flag {
	var flags []config.Flag
	for _, f := range flagsOf(cmd) {
		if keys := f.Annotations[settingKey]; len(keys) == 1 && f.Changed {
			flag := config.Flag{Key: keys[0], Name: "--" + f.Name, Value: f.Value.String()}
			if list, ok := f.Value.(pflag.SliceValue); ok {
				flag.Value, flag.Items = "", list.GetSlice()
			}
			flags = append(flags, flag)
		}
	}
	slices.SortFunc(flags, func(x, y config.Flag) int { return strings.Compare(x.Key, y.Key) })
	return flags
}

func (a *app) logger(c config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "use debug, info, warn or error", "log.level: %w", err)
	}
	w := io.Writer(&a.screen)
	if c.File != "" {
		f, err := os.OpenFile(c.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "make its folder, or set log.file", "open the log: %w", err)
		}
		w = f // open to the end of the process
	} else if c.Format == "text" && !a.cfg.Origin("log.level").Given() {
		level = slog.LevelWarn // a person sees progress instead
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(jsonLines{w}, o)), nil
	}
	return slog.New(slog.NewTextHandler(cleaned{w: w}, o)), nil
}
