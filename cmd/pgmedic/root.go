package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/words"
)

// run parses the arguments, runs a command, and returns the exit code.
func run(ctx context.Context, e *env, args []string) int {
	e.cleanStreams()
	root := rootCLI(e) //nolint:contextcheck // the demo's server outlives the context of its start and is stopped
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	ran, err := root.ExecuteContextC(ctx)
	if err != nil && ctx.Err() != nil {
		err = interrupted(err)
	}
	if err = e.trail.end(ctx, err); err == nil {
		return 0
	}
	var silent *statusError
	if errors.As(err, &silent) {
		return silent.code
	}
	code := restoreCode(args, exitCode(pgmedic.KindOf(err)))
	if own, noOwn := strconv.Atoi(ran.Annotations[exitAnnotation]); noOwn == nil {
		code = own
	}
	switch {
	case e.global.json || asksJSON(args):
		e.printJSONError(err, code)
	case ran.Annotations[oneLineAnnotation] != "":
		e.printErrorLine(err)
	default:
		e.printError(err)
	}
	return code
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
func (e *env) printError(err error) {
	paint := e.paint(e.stderrTTY)
	noticef(e, "%s %s\n", paint.bad("error:"), words.OneLine(err.Error()))
	if hint := pgmedic.HintOf(err); hint != "" {
		noticef(e, "%s %s\n", paint.dim("hint:"), words.OneLine(hint))
	}
	var unredacted interface{ Unredacted() string }
	if e.global.showData && errors.As(err, &unredacted) {
		fmt.Fprintf(e.stderr, "data: %s\n", cleanLines(unredacted.Unredacted()))
	}
}

// printErrorLine prints an error and what to do on one line, for a log that others write.
func (e *env) printErrorLine(err error) {
	line := "pgmedic: " + words.OneLine(err.Error())
	if hint := pgmedic.HintOf(err); hint != "" {
		line += "; " + words.OneLine(hint)
	}
	fmt.Fprintln(e.stderr, line)
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
// where they were not asked for.
func (e *env) shownData() func(object, words string) {
	if !e.global.showData {
		return nil
	}
	return func(object, phrase string) {
		fmt.Fprintf(e.stderr, "data: %s: %s\n", words.Clean(object), cleanLines(phrase))
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
    3  the report found warnings (with --fail-on), or diff a change (with --exit-code)
    4  the report found criticals (with --fail-on)
   10  nothing there: no such backup, database or table
   11  integrity failure: corrupt, truncated, or not what was recorded
   12  could not reach or read: network, server down, permission
   13  not confirmed
   14  the target exists or is in use, or another run holds the lock
   15  done, but something beside it failed
  130  interrupted
`

func rootCLI(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "pgmedic",
		Short: "Back up PostgreSQL, prove the backups, restore without risk",
		Long: `pgmedic backs up PostgreSQL, proves that each backup restores, restores without
touching the live database until the copy has been checked, and reports on a
server's health. ` + "`pgmedic demo`" + ` shows all of it on a private server and needs no
configuration.

` + exitCodes,
		SilenceErrors: true, SilenceUsage: true,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Version = e.version // what --version prints, as `pgmedic version` does
	root.SetVersionTemplate(strings.NewReplacer("{{", "", "}}", "").Replace(buildOf(e).String()))
	root.SetFlagErrorFunc(flagError)
	// Between words: where a terminal breaks a line it breaks words.
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", helpWidth(e))))
	f := root.PersistentFlags()
	f.StringVar(&e.global.config, "config", "", "configuration file (default: $PGMEDIC_CONFIG, else ./pgmedic.yaml if it is there)")
	f.StringVar(&e.global.envFile, "env-file", "", "file of environment variables (default: .env beside the configuration file)")
	f.BoolVar(&e.global.json, "json", false, "print the result as JSON")
	f.BoolVar(&e.global.noColor, "no-color", false, "no colours; NO_COLOR does the same")
	f.BoolVarP(&e.global.quiet, "quiet", "q", false, "no progress; print only what a script needs, such as ids")
	f.BoolVar(&e.global.yes, "yes", false, "answer every question with yes")
	f.BoolVar(&e.global.showData, "show-data-in-errors", false, "show the server's whole messages, which may quote rows, on this terminal")
	addSetting(root, "log-level", "log.level", "debug, info, warn or error (default: warn for text on standard error, else info)")
	addSetting(root, "log-format", "log.format", "text or json")
	addSetting(root, "log-file", "log.file", "file to log to (default: standard error)")
	root.AddCommand(
		demoCLI(e), initCLI(e), checkCLI(e), backupCLI(e), listCLI(e), showCLI(e), diffCLI(e),
		verifyCLI(e), drillCLI(e), copyCLI(e), restoreCLI(e), fetchCLI(e), rollbackCLI(e), pruneCLI(e), deleteCLI(e), maintainCLI(e), cleanupCLI(e), holdCLI(e), releaseCLI(e), keysCLI(e), auditCLI(e), scheduleCLI(e), notifyCLI(e), alertsCLI(e), walCLI(e), reportCLI(e), explainCLI(e), emergencyCLI(e),
		configCLI(e), manCLI(e), versionCLI(e),
	)
	addRunbook(e, root)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" { // as cobra makes it, it takes a word that is not a shell for none
			cmd.Args, cmd.RunE = unknownCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	completer{e}.add(root)
	for _, cmd := range root.Commands() {
		wrapUsage(cmd)
		for _, below := range cmd.Commands() {
			wrapUsage(below)
		}
	}
	return root
}

// helpWidth is how wide a help text may be.
func helpWidth(e *env) int {
	if width := e.stdoutWidth(); e.stdoutTTY && width > 0 {
		return max(min(width, 100), 60)
	}
	return 100
}

// unknownCommand refuses a word that is not a command, and names the nearest.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see `" + cmd.CommandPath() + " --help`"
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `" + cmd.CommandPath() + " " + near[0] + "`?"
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
	addSetting(cmd, "store", "backup.store", "where backups are: a folder, the URL of a bucket (s3://, azblob://, gs://), or the name of a configured copy")
}
