package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

// completionPatience is how long a shell waits for words that a store or a server has
// to be asked for. Then it gets none.
const completionPatience = 500 * time.Millisecond

// fixedValues are the values of flags that are no settings and can have few. A test
// holds them against what the commands accept.
func fixedValues() map[string][]string {
	return map[string][]string{
		"report --format": {"text", "html", "json", "prometheus"}, "report --fail-on": {"warn", "critical"}, "report --section": reading.Sections(),
		"prune --only": {"backups", "databases"}, "restore --compare": {"values", "counts"}, "restore --globals": {"missing", "all"},
		"demo --size": {"small", "medium", "large"}, "init --preset": config.Presets(),
	}
}

// fileFlags are the flags whose value is a file or a folder.
func fileFlags() []string {
	return []string{"config", "env-file", "output", "input", "log-file", "identity", "scratch-dir", "host", "store", "to"}
}

// addCompletions says what a shell offers for each argument and each flag. What is not
// said is nothing: never the files of a folder in the place of a backup's id.
func (a *app) addCompletions(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	for _, cmd := range commandsBelow(root) {
		name := strings.TrimPrefix(cmd.CommandPath(), "pgmedic ")
		use := cmd.Use
		switch {
		case strings.Contains(use, "ID"):
			many := strings.Contains(use, "ID…")
			cmd.ValidArgsFunction = a.completing(func(ctx context.Context, c *cobra.Command, args []string) []string {
				if len(args) > 0 && !many {
					return nil
				}
				return append([]string{catalog.Latest}, a.backupIDs(ctx, c)...)
			})
		case strings.Contains(use, "DATABASE"):
			many := strings.Contains(use, "DATABASE…")
			cmd.ValidArgsFunction = a.completing(func(ctx context.Context, c *cobra.Command, args []string) []string {
				if len(args) > 0 && !many {
					return nil
				}
				return a.databaseNames(ctx, c)
			})
		case strings.Contains(use, "FINDING"):
			cmd.ValidArgs = judge.IDs()
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { a.completeFlag(cmd, name, f) })
	}
}

// commandsBelow are a command's own and all below it.
func commandsBelow(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		all = append(all, commandsBelow(c)...)
	}
	return all
}

func (a *app) completeFlag(cmd *cobra.Command, command string, f *pflag.Flag) {
	values := fixedValues()[command+" --"+f.Name]
	if keys := f.Annotations[settingKey]; len(keys) == 1 && values == nil {
		if i := slices.IndexFunc(config.Keys(), func(k config.Key) bool { return k.Key == keys[0] }); i >= 0 {
			values = config.Keys()[i].Enum
		}
	}
	var complete cobra.CompletionFunc
	switch {
	case f.Name == "section":
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
		names := a.completing(func(_ context.Context, c *cobra.Command, _ []string) []string { return a.copyNames(c) })
		complete = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			words, _ := names(c, args, typed)
			return words, cobra.ShellCompDirectiveDefault
		}
	case slices.Contains(fileFlags(), f.Name) && command != "keys rotate":
		complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	case f.Name == "database":
		complete = a.completing(func(ctx context.Context, c *cobra.Command, _ []string) []string { return a.databaseNames(ctx, c) })
	default:
		return
	}
	// It fails for an unknown flag and for one that has a function already.
	_ = cmd.RegisterFlagCompletionFunc(f.Name, complete)
}

// completing bounds how long words are looked for, and keeps everything but words off
// the terminal.
func (a *app) completing(find func(context.Context, *cobra.Command, []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		a.log = slog.New(slog.DiscardHandler)
		found := make(chan []string, 1)
		go func() { found <- find(ctx, cmd, args) }() // what does not heed ctx ends with the process
		select {
		case words := <-found:
			return words, cobra.ShellCompDirectiveNoFileComp
		case <-ctx.Done():
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// loadQuietly is load without a log and without a word of what is wrong.
func (a *app) loadQuietly(cmd *cobra.Command) bool {
	cfg, err := config.Load(config.Options{
		File: a.global.config, EnvFile: a.global.envFile, Environ: a.environ, Dir: a.dir, Flags: changedSettings(cmd),
	})
	a.cfg = cfg
	return err == nil
}

func (a *app) copyNames(cmd *cobra.Command) []string {
	if !a.loadQuietly(cmd) {
		return nil
	}
	var names []string
	for _, c := range a.cfg.Copies {
		if c.Name != "" {
			names = append(names, c.Name)
		}
	}
	return names
}

// backupIDs are the newest backups of the store, of which nothing but a list is read.
func (a *app) backupIDs(ctx context.Context, cmd *cobra.Command) []string {
	if !a.loadQuietly(cmd) {
		return nil
	}
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return nil
	}
	defer closed()
	ids, err := c.IDs(ctx, catalog.Filter{Server: a.cfg.Server})
	if err != nil {
		return nil
	}
	return ids
}

func (a *app) databaseNames(ctx context.Context, cmd *cobra.Command) []string {
	if !a.loadQuietly(cmd) {
		return nil
	}
	t, err := a.target()
	if err != nil {
		return nil
	}
	conn, err := postgres.Connect(ctx, t.WithDatabase(a.cfg.Database.MaintenanceDatabase))
	if err != nil {
		return nil
	}
	defer postgres.Close(ctx, conn)
	names, err := databases.List(ctx, conn)
	if err != nil {
		return nil
	}
	return names
}
