package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/emergency"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

type emergencyFlags struct {
	when, table string
}

// emergencyCommand checks what there is, and prints the steps for what happened.
type emergencyCommand struct {
	job
	servers servers
	stores  stores
	keys    keyring

	args  []string
	flags emergencyFlags
	// repeated are the flags of this run that its commands must be given, too.
	repeated repeatedFlags
	// loadErr is why there is no configuration.
	loadErr error
	list    checklist
	facts   emergency.Facts
}

func emergencyCLI(e *env) *cobra.Command {
	var flags emergencyFlags
	cmd := &cobra.Command{
		Use:   "emergency [WHAT] [DATABASE]",
		Short: "Say what to do when something went wrong, step by step",
		Long: `Checks what there is (the server, its disk, slots, locks and transaction numbers, the
newest backup, the moments that can be recovered to, the keys), and prints what to do in
this case: one step at a time, each with the exact command. It changes nothing, and works
without a server, a store or a configuration: what could not be checked is listed.

At a terminal it asks what happened. Then Enter shows the next step, r runs the command
that is shown, after a question, and q leaves. It runs pgmedic's own commands, and of those
only what changes nothing that is there. SQL is printed for you to run.
Without a terminal all steps are printed, and none is run.

What happened:
` + emergencyCases() + `
The exit code is 15 if something could not be checked, else 0. ` + "`pgmedic help emergency`" + `
prints the whole runbook, without a server and a network.`,
		Example: `  pgmedic emergency
  pgmedic emergency table-dropped clinic --table public.claims --when 10:42
  pgmedic emergency disk-full
  pgmedic help emergency disk-full`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return pgmedic.Errorf(pgmedic.KindUsage, "", "takes what happened and a database, and got %d words", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if e.global.yes {
				return pgmedic.Errorf(pgmedic.KindUsage, "leave out --yes", "pgmedic emergency runs nothing without a question of its own")
			}
			j, loadErr := e.loadAnyhow(cmd)
			if j.cfg == nil && (len(changedSettings(cmd)) > 0 || e.global.config != "" || e.global.envFile != "") {
				return loadErr // what was typed just now can be corrected
			}
			command := &emergencyCommand{
				job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j},
				args: args, flags: flags, repeated: repeatedOf(cmd), loadErr: loadErr,
			}
			return command.run(cmd.Context())
		},
	}
	addConnection(cmd)
	addStore(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.when, "when", "", "when it happened: 10:42, '2026-11-29 10:42', or with its offset from UTC; without one by the clock of this host")
	f.StringVar(&flags.table, "table", "", "the table that it happened to: schema.table")
	withoutSecrets(cmd) // what can't be read must not end the guide
	return cmd
}

// emergencyCases lists the cases for --help.
func emergencyCases() string {
	var b strings.Builder
	for _, c := range emergency.Cases() {
		b.WriteString("  " + c.ID + strings.Repeat(" ", 17-len(c.ID)) + c.Summary + "\n")
	}
	return b.String()
}

// emergencyIDs are what the cases are called.
func emergencyIDs() (ids []string) {
	for _, c := range emergency.Cases() {
		ids = append(ids, c.ID)
	}
	return ids
}

// loadAnyhow is load for a command that works without what load may fail at. The
// configuration is nil where there is none that can be read.
func (e *env) loadAnyhow(cmd *cobra.Command) (job, error) {
	j, err := e.load(cmd)
	if err == nil {
		return j, nil
	}
	silent := slog.New(slog.DiscardHandler)
	cfg, configErr := config.Load(config.Options{
		File: e.global.config, EnvFile: e.global.envFile, Environ: e.environ, Dir: e.dir, Flags: changedSettings(cmd),
	})
	if configErr != nil {
		return job{env: e, log: silent}, configErr
	}
	return job{env: e, cfg: cfg, log: silent, secrets: newResolver(cfg, e.environ)}, err
}

// repeatedFlags are flags as they are typed, by what they are about.
type repeatedFlags struct {
	global, connection, store, server []string
}

// repeatedOf are the flags of this run that commands must be given, too. A URL with a
// password, which is refused before, is left out: it must not be printed.
func repeatedOf(cmd *cobra.Command) (r repeatedFlags) {
	for _, name := range []string{"config", "env-file", "url", "host", "port", "user", "server", "store"} {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		typed := "--" + name + "=" + f.Value.String()
		switch name {
		case "config", "env-file":
			r.global = append(r.global, typed)
		case "store":
			r.store = append(r.store, typed)
		case "server":
			r.server = append(r.server, typed)
		case "url":
			if t, err := postgres.ParseTarget(f.Value.String()); err != nil || t.Password() != "" {
				continue
			}
			r.connection = append(r.connection, typed)
		default:
			r.connection = append(r.connection, typed)
		}
	}
	return r
}

// what is the case of the first argument, or one that is chosen at a terminal.
func (cmd *emergencyCommand) what(ctx context.Context) (emergency.Case, error) {
	ids := emergencyIDs()
	list := "say one of " + strings.Join(ids, ", ")
	if len(cmd.args) == 0 {
		if !cmd.canChoose() {
			return emergency.Case{}, pgmedic.Errorf(pgmedic.KindUsage, list, "say what happened: there is no terminal to ask at")
		}
		return cmd.chooseCase(ctx)
	}
	c, ok := emergency.Find(cmd.args[0])
	if !ok {
		if near := nearestOf(cmd.args[0], ids); near != "" {
			list = "did you mean " + near + "?"
		}
		return c, pgmedic.Errorf(pgmedic.KindUsage, list, "there is no case %.60q", cmd.args[0])
	}
	return c, nil
}

func (cmd *emergencyCommand) run(ctx context.Context) error {
	if err := cmd.checkFlags(); err != nil {
		return err
	}
	what, err := cmd.what(ctx)
	if err != nil {
		return err
	}
	if err := cmd.checkUsed(what); err != nil {
		return err
	}
	if err := cmd.askDetails(ctx, what); err != nil {
		return err
	}
	cmd.check(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	plan := emergency.NewPlan(what, cmd.facts)
	if err := cmd.guide(ctx, plan); err != nil {
		return err
	}
	if cmd.list.failed {
		return &statusError{code: exitCode(pgmedic.KindDegraded)}
	}
	return nil
}

// checkFlags reads the flags.
func (cmd *emergencyCommand) checkFlags() error {
	cmd.facts.Now = cmd.now()
	cmd.facts.Table = cmd.flags.table
	if len(cmd.args) > 1 {
		cmd.facts.Database = cmd.args[1]
	}
	if cmd.flags.table != "" {
		if _, err := sqltext.ParseTablePattern(cmd.flags.table); err != nil {
			return err
		}
	}
	if cmd.flags.when == "" {
		return nil
	}
	at, err := emergency.ParseWhen(cmd.flags.when, cmd.facts.Now)
	cmd.facts.When = at
	return err
}

// checkUsed refuses flags that the steps of a case do not depend on.
func (cmd *emergencyCommand) checkUsed(what emergency.Case) error {
	var unused string
	switch {
	case cmd.flags.when != "" && !what.Moment:
		unused = "--when"
	case cmd.flags.table != "" && !what.Table:
		unused = "--table"
	default:
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "leave it out", "the steps of %s do not depend on %s", what.ID, unused)
}

// asks reports whether a person answers at a terminal.
func (cmd *emergencyCommand) asks() bool {
	return cmd.stdinTTY && cmd.stdoutTTY && cmd.stderrTTY && !cmd.global.json && !cmd.global.quiet
}

// askDetails asks for what the steps need and no flag says.
func (cmd *emergencyCommand) askDetails(ctx context.Context, what emergency.Case) error {
	if !cmd.asks() {
		return nil
	}
	for what.Moment && cmd.facts.When.IsZero() {
		text, err := promptOf(cmd.env).Line(ctx, "When did it happen? 10:42, '2026-11-29 10:42', or Enter if you don't know: ")
		if err != nil || text == "" {
			if err != nil {
				return err
			}
			break
		}
		at, err := emergency.ParseWhen(strings.Trim(text, "'"), cmd.facts.Now)
		if err != nil {
			cmd.say(err)
			continue
		}
		cmd.facts.When = at
	}
	for what.Table && cmd.facts.Table == "" {
		text, err := promptOf(cmd.env).Line(ctx, "Which table? Such as public.claims, or Enter if you don't know: ")
		if err != nil || text == "" {
			return err
		}
		if _, err := sqltext.ParseTablePattern(text); err != nil {
			cmd.say(err)
			continue
		}
		cmd.facts.Table = text
	}
	return nil
}

// say prints why an answer can't be taken.
func (cmd *emergencyCommand) say(err error) {
	hint := pgmedic.HintOf(err)
	if hint != "" {
		hint = ": " + hint
	}
	cmd.errorf("%s%s\n", words.OneLine(err.Error()), words.Clean(hint))
}

// codeNoDatabase is the SQLSTATE of a database that does not exist.
const codeNoDatabase = "3D000"

// notInPlace is why restore --in-place makes no table again from a backup; empty where
// nothing is known against it.
func notInPlace(b *pgmedic.Backup) string {
	switch {
	case b.Method != pgmedic.MethodParallel:
		return "was taken with method " + words.Clean(string(b.Method))
	case b.Database.Encoding != "UTF8":
		return "is of a database in encoding " + words.Clean(b.Database.Encoding)
	}
	return ""
}

// by is a time with the offset of this host, for a person.
func by(at time.Time) string { return at.Format("2006-01-02 15:04:05 -07:00") }
