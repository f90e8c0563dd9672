package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/maintain"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

// completionPatience is how long a shell waits for words that a store or a server has
// to be asked for. Then it gets those that are known without.
const completionPatience = 2 * time.Second

// patience is completionPatience, or the length in PGMEDIC_COMPLETION_TIMEOUT.
func (comp completer) patience() time.Duration {
	if d, err := time.ParseDuration(comp.variable("PGMEDIC_COMPLETION_TIMEOUT")); err == nil && d > 0 {
		return d
	}
	return completionPatience
}

// fixedValues are the values of flags that are not settings and can have few. A test
// holds them against what the commands accept.
func fixedValues() map[string][]string {
	return map[string][]string{
		"report --format": {"text", "html", "json", "prometheus"}, "report --fail-on": {"warn", "critical"}, "report --section": reading.Sections(),
		"prune --only": {"backups", "databases"}, "restore --compare": {"values", "counts"}, "restore --globals": {"missing", "all"}, "restore --format": dumpFormats(), "fetch --only": fetchParts(),
		"demo --size": {"small", "medium", "large"}, "init --preset": config.Presets(),
		"backup --checkpoint": {"fast", "spread"}, "backup --label": {"shrunk=expected"}, "drill --at": {"random", "latest"}, "restore --timeline": {"latest"},
		"maintain --only":     maintainKinds(),
		"notify test --event": notify.Samples(), "alerts silence --severity": {"critical", "warn"},
	}
}

// maintainKinds are the kinds of steps of maintain.
func maintainKinds() (names []string) {
	for _, k := range maintain.Kinds() {
		names = append(names, string(k))
	}
	return names
}

// silenceable are the findings that a silence can name.
func silenceable() []string {
	return append(judge.IDs(), alert.Unwatched, alert.ServerUnreachable, alert.StoreUnreachable)
}

// fileFlags are the flags whose value is a file or a folder.
func fileFlags() []string {
	return []string{
		"config", "env-file", "output", "input", "log-file", "identity", "scratch-dir", "host", "store", "to", "file", "passphrase-file",
		"watch-state", "plan", "target-dir", "wal-dir", "spool", "new", "new-key",
	}
}

// completer finds the words that a shell offers.
type completer struct{ *env }

// add says what a shell offers for each argument and each flag. What is not
// said is nothing: never the files of a folder in the place of a backup's id.
func (comp completer) add(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	for _, cmd := range commandsBelow(root) {
		name := strings.TrimPrefix(cmd.CommandPath(), "pgmedic ")
		if arguments := strings.Fields(cmd.Use)[1:]; len(arguments) > 0 {
			cmd.ValidArgsFunction = comp.completing(func(ctx context.Context, c *cobra.Command, args []string, meanwhile offer) ([]string, cobra.ShellCompDirective) {
				at := len(args)
				if last := len(arguments) - 1; at > last && strings.Contains(arguments[last], "…") {
					at = last
				}
				if at >= len(arguments) {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return comp.argument(ctx, c, strings.Trim(arguments[at], "[]"), args, meanwhile)
			})
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { comp.completeFlag(cmd, name, f) })
	}
}

// argument finds the words for an argument by its name in the usage of its command, such
// as ID|latest or DATABASE…. A test holds all commands against it.
func (comp completer) argument(ctx context.Context, cmd *cobra.Command, name string, before []string, meanwhile offer) ([]string, cobra.ShellCompDirective) {
	var found []string
	kind, _, _ := strings.Cut(strings.TrimSuffix(name, "…"), "|")
	kind = strings.TrimSuffix(kind, "…")
	switch kind {
	case "ID":
		var live []string
		if strings.HasSuffix(name, "|live") {
			live = append(live, "live")
		}
		meanwhile(slices.Concat([]string{catalog.Latest}, live))
		found = slices.Concat([]string{catalog.Latest}, comp.backupIDs(ctx, cmd), live)
	case "DATABASE":
		found = comp.databaseNames(ctx, cmd, meanwhile)
	case "FINDING":
		found = judge.IDs()
	case "WHAT":
		found = emergencyIDs()
	case "CHANNEL":
		found = comp.channelNames(cmd)
	case "ALERT", "SILENCE":
		found = comp.alertNames(cmd, kind == "SILENCE")
	case "NAME":
		if strings.HasPrefix(cmd.CommandPath(), "pgmedic keys") {
			found = comp.keyNames(ctx, cmd, before)
		}
	case "DIR", "FILE", "PATH":
		return nil, cobra.ShellCompDirectiveDefault
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// commandsBelow are a command's own and all below it.
func commandsBelow(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		all = append(all, commandsBelow(c)...)
	}
	return all
}

func (comp completer) completeFlag(cmd *cobra.Command, command string, f *pflag.Flag) {
	values := fixedValues()[command+" --"+f.Name]
	if keys := f.Annotations[settingKey]; len(keys) == 1 && values == nil {
		if k, ok := config.KeyOf(keys[0]); ok {
			values = k.Enum
		}
	}
	var complete cobra.CompletionFunc
	switch {
	case f.Name == "section" || f.Name == "only" && f.Value.Type() == "stringSlice":
		complete = func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			before := typed[:strings.LastIndex(typed, ",")+1]
			var words []string
			for _, v := range values {
				words = append(words, before+v)
			}
			return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
	case len(values) > 0:
		complete = cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	case f.Name == "store" || f.Name == "to" && command == "copy":
		names := comp.words(func(_ context.Context, c *cobra.Command, _ []string) []string { return comp.copyNames(c) })
		complete = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			words, _ := names(c, args, typed)
			return words, cobra.ShellCompDirectiveDefault
		}
	case slices.Contains(fileFlags(), f.Name) && command != "keys rotate":
		complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	case f.Name == "finding":
		complete = cobra.FixedCompletions(silenceable(), cobra.ShellCompDirectiveNoFileComp)
	case f.Name == "database":
		complete = comp.completing(func(ctx context.Context, c *cobra.Command, _ []string, meanwhile offer) ([]string, cobra.ShellCompDirective) {
			return comp.databaseNames(ctx, c, meanwhile), cobra.ShellCompDirectiveNoFileComp
		})
	case slices.Contains(tableFlags(), f.Name):
		complete = comp.words(comp.tableNames)
	case slices.Contains(schemaFlags(), f.Name):
		complete = comp.words(comp.schemaNames)
	case f.Name == "from" && command == "keys rotate":
		complete = comp.words(comp.keyNames)
	default:
		return
	}
	// It fails for an unknown flag and for one that has a function already.
	_ = cmd.RegisterFlagCompletionFunc(f.Name, complete)
}

// offer takes the words that are known before a store or a server is asked for more. They are
// what the shell gets if that takes too long. It may be called once.
type offer func(words []string)

// completing bounds how long words are looked for, and keeps everything but words off
// the terminal.
func (comp completer) completing(find func(context.Context, *cobra.Command, []string, offer) ([]string, cobra.ShellCompDirective)) cobra.CompletionFunc {
	type answer struct {
		words     []string
		directive cobra.ShellCompDirective
	}
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), comp.patience())
		defer cancel()
		found, known := make(chan answer, 1), make(chan []string, 1)
		go func() { // what does not heed ctx ends with the process
			words, directive := find(ctx, cmd, args, func(words []string) { known <- slices.Clone(words) })
			found <- answer{words, directive}
		}()
		select {
		case a := <-found:
			return a.words, a.directive
		case <-ctx.Done():
		}
		select {
		case words := <-known:
			return words, cobra.ShellCompDirectiveNoFileComp
		default:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// words is completing for words alone, and no files.
func (comp completer) words(find func(context.Context, *cobra.Command, []string) []string) cobra.CompletionFunc {
	return comp.completing(func(ctx context.Context, cmd *cobra.Command, args []string, _ offer) ([]string, cobra.ShellCompDirective) {
		return find(ctx, cmd, args), cobra.ShellCompDirectiveNoFileComp
	})
}

// load is env.load without a log and without a word of what is wrong.
func (comp completer) load(cmd *cobra.Command) (j job, ok bool) {
	cfg, err := config.Load(config.Options{
		File: comp.global.config, EnvFile: comp.global.envFile, Environ: comp.environ, Dir: comp.dir, Flags: changedSettings(cmd),
	})
	return job{env: comp.env, cfg: cfg, log: slog.New(slog.DiscardHandler)}, err == nil
}

func (comp completer) copyNames(cmd *cobra.Command) []string {
	j, ok := comp.load(cmd)
	if !ok {
		return nil
	}
	var names []string
	for _, c := range j.cfg.Copies {
		if c.Name != "" {
			names = append(names, c.Name)
		}
	}
	return names
}

// backupIDs are the newest backups of the store, of which nothing but a list is read.
func (comp completer) backupIDs(ctx context.Context, cmd *cobra.Command) []string {
	j, ok := comp.load(cmd)
	if !ok {
		return nil
	}
	c, closed, err := stores{j}.openCatalog(ctx)
	if err != nil {
		return nil
	}
	defer closed()
	ids, err := c.IDs(ctx, catalog.Filter{Server: j.cfg.Server})
	if err != nil {
		return nil
	}
	return ids
}

// databaseNames are the configured database and those of the server, if it answers.
func (comp completer) databaseNames(ctx context.Context, cmd *cobra.Command, meanwhile offer) []string {
	j, ok := comp.load(cmd)
	if !ok {
		return nil
	}
	var names []string
	t, err := servers{j}.target()
	if err != nil {
		return nil
	}
	if t.Database() != "" {
		names = append(names, t.Database())
	}
	meanwhile(names)
	if len(j.cfg.Unread()) > 0 { // no manager is asked while somebody types
		return names
	}
	conn, err := postgres.Connect(ctx, t.WithDatabase(j.cfg.Database.MaintenanceDatabase))
	if err != nil {
		return names
	}
	defer postgres.Close(ctx, conn)
	all, err := databases.List(ctx, conn)
	if err != nil {
		return names
	}
	return all
}
