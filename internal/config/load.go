package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/hidden"
)

// defaultFile is the configuration file that is read from the working folder
// when no other is named.
const defaultFile = "pgmedic.yaml"

// Options says where Load looks.
type Options struct {
	// File is the configuration file. Empty: the one that PGMEDIC_CONFIG
	// names, else pgmedic.yaml in Dir if there is one, else none.
	File string
	// EnvFile is the file of environment variables. Empty: .env beside the
	// configuration file, or in Dir where there is none, if it exists.
	EnvFile string
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// Dir is the working folder. Empty: that of the process.
	Dir string
	// Flags are the settings that the command line sets.
	Flags []Flag
}

// Flag is one setting that the command line sets.
type Flag struct {
	// Key is the dotted key of the setting: database.host.
	Key string
	// Name is the flag as messages show it: --host.
	Name string
	// Value is what it was set to, in the form that the environment has.
	Value string
	// Items are the values of a flag that may be repeated, instead of Value.
	Items []string
}

// Load reads and checks the configuration. Flags go over the environment, that
// over the .env file, that over pgmedic.yaml, and that over the defaults; an
// empty value outside the command line counts as not set. Every error is of
// KindUsage, is one line about the first problem found and quotes no value.
func Load(opts Options) (*Config, error) {
	l, err := newLoader(opts)
	if err != nil {
		return nil, err
	}
	cfg := &Config{File: l.file, EnvFile: l.envFile, origins: map[string]Origin{}, folders: map[string]string{}, libpq: map[string]string{}}
	if l.yaml != nil {
		for _, s := range l.yaml.schedules {
			cfg.Schedules, cfg.scheduleOrigins = append(cfg.Schedules, s.Entry), append(cfg.scheduleOrigins, s.origin)
		}
	}
	v := reflect.ValueOf(cfg).Elem()
	for _, f := range fields() {
		r := l.lookup(f)
		cfg.origins[f.key], cfg.folders[f.key] = r.origin, r.base
		if r.origin.Source == SourceLibpq {
			cfg.libpq[f.key] = r.text
			continue
		}
		if f.key == "backup.store" && l.maybeCopy(r) {
			continue // chooseStore knows the copies
		}
		if err := l.set(f, r, v.FieldByIndex(f.index)); err != nil {
			return nil, err
		}
	}
	cfg.Backup.late, l.late = l.late, nil
	cfg.Backup.kept, l.kept = l.kept, nil
	if err := cfg.checkThresholds(); err != nil {
		return nil, err
	}
	if err := cfg.checkAudit(); err != nil {
		return nil, err
	}
	if err := cfg.checkWAL(); err != nil {
		return nil, err
	}
	cfg.imply()
	if err := l.copies(cfg); err != nil {
		return nil, err
	}
	l.noteUnused(cfg)
	l.connectionWarnings(cfg)
	cfg.references, cfg.environment = l.references, l.located
	l.notifications(cfg)
	l.awsReferences()
	l.nameWarnings() // once it is known which names others refer to
	cfg.Warnings, cfg.credentials = l.warnings, l.credentials
	return cfg, nil
}

// loader is the state of one Load.
type loader struct {
	dir             string
	file, envFile   string // paths, or empty
	envName         string // the .env file as messages show it
	yaml            *yamlFile
	dotenv, environ map[string]string
	flags           map[string]raw
	references      map[string]Reference
	credentials     []Credential
	// named are the variables that references env:NAME name.
	named []string
	// late are the secrets of the store whose settings are being read that are kept by
	// managers.
	late []lateSecret
	// kept are those and the ones in files.
	kept     []lateSecret
	warnings []string
}

func newLoader(opts Options) (*loader, error) {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, usage("the working folder can't be found", "run pgmedic in a folder that exists")
	}
	l := &loader{dir: dir, dotenv: map[string]string{}, environ: map[string]string{}, flags: map[string]raw{}, references: map[string]Reference{}}
	for _, pair := range opts.Environ {
		name, value, _ := strings.Cut(pair, "=")
		l.environ[name] = value
	}
	if err := l.readFlags(opts.Flags); err != nil {
		return nil, err
	}
	if err := l.readYAML(opts.File); err != nil {
		return nil, err
	}
	return l, l.readEnvFile(opts.EnvFile)
}

// variable is one of the process's environment, else of the .env file.
func (l *loader) variable(name string) string {
	if v := l.environ[name]; v != "" {
		return v
	}
	return l.dotenv[name]
}

// located is variable for whoever reads what it names: a relative path that the .env file
// has for a file, by the end of the name, starts from the folder of that file.
func (l *loader) located(name string) string {
	v := l.variable(name)
	isPath := strings.HasSuffix(name, "_FILE") || strings.HasSuffix(name, "_CACERT")
	if v == "" || !isPath || l.environ[name] != "" || filepath.IsAbs(v) {
		return v
	}
	return filepath.Join(filepath.Dir(l.envFile), v)
}

func (l *loader) readFlags(flags []Flag) error {
	for _, flag := range flags {
		known := func(f field) bool { return f.key == flag.Key && !f.isMap() && !f.isAssertions() && !f.isMutes() }
		if !slices.ContainsFunc(fields(), known) {
			return usage(fmt.Sprintf("flag %s sets %q, which is not a setting", flag.Name, flag.Key), "")
		}
		if flag.Value == "" && len(flag.Items) == 0 {
			// Going on with a lower source could mean another database.
			return usage(flag.Name+" is empty", "give it a value or leave it out")
		}
		l.flags[flag.Key] = raw{text: flag.Value, items: flag.Items, base: l.dir, origin: Origin{Source: SourceFlag, Name: flag.Name}}
	}
	return nil
}

// readYAML finds and reads the configuration file.
func (l *loader) readYAML(name string) error {
	given := name != ""
	if !given {
		name = l.environ["PGMEDIC_CONFIG"]
		given = name != ""
	}
	if !given {
		name = defaultFile
	}
	path := l.abs(name)
	data, _, err := hidden.ReadFile(path, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return nil
	}
	if err != nil {
		return usage(fmt.Sprintf("%s: can't be read: %v", name, err),
			"check the path and that this user may read it; pgmedic init writes a new one")
	}
	l.file = path
	l.yaml, err = parseYAML(data, name, filepath.Dir(path))
	if err != nil {
		return err
	}
	if len(l.yaml.values) == 0 && len(l.yaml.copies) == 0 && len(l.yaml.schedules) == 0 && len(l.yaml.channels) == 0 && strings.TrimSpace(string(data)) == "" {
		return usage(name+": is empty", "write settings into it, or remove it; pgmedic init writes a new one")
	}
	return nil
}

func (l *loader) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(l.dir, path)
}

// lookup returns the value of the highest source that has one. With nothing
// set anywhere the text is the default, which may be empty.
func (l *loader) lookup(f field) raw {
	if r, ok := l.flags[f.key]; ok {
		return r
	}
	if f.env != "" {
		if text := l.environ[f.env]; text != "" {
			return raw{text: text, base: l.dir, origin: Origin{Source: SourceEnvironment, Name: f.env}}
		}
		if text := l.dotenv[f.env]; text != "" {
			return raw{text: text, base: filepath.Dir(l.envFile), origin: Origin{Source: SourceEnvFile, File: l.envName, Name: f.env}}
		}
	}
	if l.yaml != nil {
		if r, ok := l.yaml.values[f.key]; ok {
			return r
		}
	}
	for i, name := range f.libpq {
		if text := l.environ[name]; text != "" {
			r := raw{origin: Origin{Source: SourceLibpq, Name: name}}
			if i == 0 { // the others say it in another form
				r.text = text
			}
			if f.secret && r.text != "" {
				r.text = hidden.Set
			}
			return r
		}
	}
	return raw{text: f.def, base: l.defaultBase()}
}

// defaultBase is the folder that relative defaults start from: that of the file
// that the settings are read from, so that a job in another folder means the same
// store, or the working folder where there is no file.
func (l *loader) defaultBase() string {
	switch {
	case l.file != "":
		return filepath.Dir(l.file)
	case l.envFile != "":
		return filepath.Dir(l.envFile)
	}
	return l.dir
}

// nameWarnings warns about names of ours that nothing reads.
func (l *loader) nameWarnings() {
	names := known()
	var unknown []string
	for _, env := range []map[string]string{l.environ, l.dotenv} {
		for name := range env {
			ours := strings.HasPrefix(name, "DB_") || strings.HasPrefix(name, "BACKUP_") || strings.HasPrefix(name, "PGMEDIC_") || strings.HasPrefix(name, "NOTIFICATION_")
			if ours && isName(name) && !slices.Contains(names, name) && !slices.Contains(unknown, name) {
				unknown = append(unknown, name)
			}
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		if guess := nearest(name, names); guess != "" {
			l.warn("%s is set but unknown; did you mean %s?", name, guess)
		}
	}
	for _, name := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSERVICE"} {
		if l.dotenv[name] != "" && l.environ[name] == "" {
			l.warn("%s: %s has no effect there, only in the environment; use DB_HOST and the like, or DATABASE_URL", l.envName, name)
		}
	}
	l.awsWarning()
}

func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

// usage returns a KindUsage error of one line. The message is not a format, so
// that a % in a file's name stays one.
func usage(message, hint string) error {
	return &pgmedic.Error{Kind: pgmedic.KindUsage, Hint: hint, Err: errors.New(message)}
}

// isFile reports whether path is there, whatever it is.
func isFile(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
