package main

import (
	"io"
	"log/slog"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/logfile"
	"github.com/pgmedic/pgmedic/internal/secret"
	"github.com/pgmedic/pgmedic/internal/terminal"
)

// env is what one run of the program was given: its streams, its environment, the
// clock, and the flags that every command has. It prints and asks.
type env struct {
	version string
	// commit is what a release was built from; empty where the linker did not say.
	commit         string
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
	// trail records what the run does; nil where it is not recorded.
	trail *trail
	// screen keeps log lines and the line of progress apart.
	screen terminal.Screen
}

// globalFlags are those that every command has.
type globalFlags struct {
	config, envFile string
	json            bool
	noColor, quiet  bool
	yes, showData   bool
}

// job is an env with the configuration of a command, and the log. load makes it, and the
// demo and completion make their own: whatever has a job has a configuration that was
// checked.
type job struct {
	*env
	cfg *config.Config
	log *slog.Logger
	// secrets reads what is kept elsewhere.
	secrets *secret.Resolver
	// logSteps is true where standard error is for records, not for people.
	logSteps bool
	// outcomes gathers what is reported of the job, and notifier reports it; nil where
	// nothing is.
	outcomes *outcomes
	notifier *notifier
}

// load reads the configuration, flags included, and makes the logger. With an error
// the job has the configuration, if it could be read.
func (e *env) load(cmd *cobra.Command) (job, error) {
	o := config.Options{File: e.global.config, EnvFile: e.global.envFile, Environ: e.environ, Dir: e.dir}
	o.Flags = append(o.Flags, changedSettings(cmd)...)
	cfg, err := config.Load(o)
	if err != nil {
		return job{env: e}, err
	}
	j := job{env: e, cfg: cfg, secrets: newResolver(cfg, e.environ)}
	if err := checkMutes(cfg); err != nil {
		return j, err
	}
	logs := cfg.Log
	if logs.File == "" && e.stderrTTY && cfg.Origin("log.format").Source == config.SourceFile {
		// The file is made for jobs, whose logs are collected; here sits a person.
		logs.Format = "text"
	}
	if j.log, err = e.logger(cfg, logs); err != nil {
		return j, err
	}
	for _, w := range cfg.Warnings {
		j.log.Warn("the configuration may have a mistake", "warning", w)
	}
	// A person sees progress; a program that reads JSON gets it as records.
	j.logSteps = logs.Format == "json" && logs.File == ""
	if err := j.checkAuditPaths(); err != nil {
		return j, err
	}
	// A run whose secrets can't be read is recorded as well. It opens no store.
	e.trail = newTrail(j, actionOf(cmd))
	if err := readSecrets(cmd.Context(), cmd, cfg, j.secrets.Resolve); err != nil {
		return j, err
	}
	e.trail.mayAnchor(cmd.Annotations[readsNoSecrets] == "")
	return j, nil
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

// logger makes the log that the settings c ask for, which are those of cfg or differ for
// a person at a terminal.
func (e *env) logger(cfg *config.Config, c config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "use debug, info, warn or error", "log.level: %w", err)
	}
	w := io.Writer(&e.screen)
	if c.File != "" {
		f, err := logfile.Open(logfile.Options{Path: c.File, Now: e.now})
		if err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "make its folder, or set log.file", "%w", err)
		}
		w = f // open to the end of the process
	} else if c.Format == "text" && !cfg.Origin("log.level").Given() {
		level = slog.LevelWarn // a person sees progress instead
	}
	if c.Format == "text" && c.File == "" && e.stderrTTY {
		return slog.New(newNotices(w, level, e.paint(true))), nil
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(jsonLines{w}, o)), nil
	}
	return slog.New(slog.NewTextHandler(terminal.Text{W: w}, o)), nil
}

// userName is who runs pgmedic.
func (e *env) userName() string {
	for _, kv := range e.environ {
		if name, ok := strings.CutPrefix(kv, "SUDO_USER="); ok && name != "" {
			return name
		}
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

// absolute makes a path of the command line absolute.
func (e *env) absolute(path, otherwise string) string {
	if path == "" {
		path = otherwise
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(e.dir, path)
	}
	return path
}

// variable is an environment variable of this run.
func (e *env) variable(name string) string {
	for _, kv := range e.environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}
