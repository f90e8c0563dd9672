package scratch

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Installation is a set of PostgreSQL programs that can make and run a server.
type Installation struct {
	// BinDir is the folder that holds initdb and postgres, without symbolic
	// links in its path.
	BinDir string
	// Major is the major version, Version all of it, such as 15.20 or 19devel.
	Major   int
	Version string
}

// FindOptions say where Find looks.
type FindOptions struct {
	// SearchDirs are looked at first. Each is a bin folder, or holds one, or
	// holds <major>/bin folders.
	SearchDirs []string
	// Logger receives warnings about programs that exist and do not run; nil
	// discards them.
	Logger *slog.Logger
}

// Find returns the installed PostgreSQL servers, the newest major version
// first; several of one major version are in the order in which they were
// found: SearchDirs, the folders that packages of Debian, Red Hat, Alpine,
// Homebrew and PostgreSQL's own makefile use, then PATH.
func Find(ctx context.Context, opts FindOptions) ([]Installation, error) {
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	var found []Installation
	seen := map[string]bool{}
	for _, dir := range candidateDirs(ctx, opts.SearchDirs) {
		resolved, err := filepath.EvalSymlinks(dir)
		if err != nil || seen[resolved] {
			continue
		}
		seen[resolved] = true
		if !isExecutable(filepath.Join(resolved, "initdb")) ||
			!isExecutable(filepath.Join(resolved, "postgres")) {
			continue
		}
		installation, err := inspect(ctx, resolved)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look for PostgreSQL: %w", context.Cause(ctx))
		}
		if err != nil {
			logger.Warn("PostgreSQL is installed but doesn't run", "dir", resolved, "error", err)
			continue
		}
		found = append(found, installation)
	}
	slices.SortStableFunc(found, func(a, b Installation) int { return cmp.Compare(b.Major, a.Major) })
	return found, nil
}

// candidateDirs lists folders that may be bin folders, in order of preference.
func candidateDirs(ctx context.Context, searchDirs []string) []string {
	var dirs []string
	for _, dir := range searchDirs {
		dirs = append(dirs, dir, filepath.Join(dir, "bin"))
		dirs = append(dirs, glob(dir, "[0-9]*/bin")...)
	}
	for _, pattern := range []string{
		"usr/lib/postgresql/*/bin",
		"usr/pgsql-*/bin",
		"usr/libexec/postgresql*",
		"usr/local/pgsql/bin",
		"opt/homebrew/opt/postgresql*/bin",
		"usr/local/opt/postgresql*/bin",
		"home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		"Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		dirs = append(dirs, glob("/", pattern)...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(resolved))
		}
		dirs = append(dirs, filepath.Dir(path))
	} else if out, err := output(ctx, "pg_config", "--bindir"); err == nil {
		dirs = append(dirs, strings.TrimSpace(out))
	}
	return dirs
}

// glob matches a pattern below a folder whose own name is taken as it is.
func glob(dir, pattern string) []string {
	names, err := fs.Glob(os.DirFS(dir), pattern)
	if err != nil {
		return nil
	}
	for i, name := range names {
		names[i] = filepath.Join(dir, name)
	}
	return names
}

// Installed returns the programs of a major version that a server would be started with. It
// returns an error of KindUsage if they are not installed.
func Installed(ctx context.Context, major int, opts FindOptions) (Installation, error) {
	return choose(ctx, Options{Major: major, SearchDirs: opts.SearchDirs, Logger: opts.Logger})
}

// choose returns the installation that the options ask for.
func choose(ctx context.Context, opts Options) (Installation, error) {
	if opts.BinDir != "" {
		return inspectChosen(ctx, opts)
	}
	found, err := Find(ctx, FindOptions{SearchDirs: opts.SearchDirs, Logger: opts.Logger})
	if err != nil {
		return Installation{}, err
	}
	majors := make([]string, 0, len(found))
	for _, installation := range found {
		if opts.Major == 0 || installation.Major == opts.Major {
			return installation, nil
		}
		majors = append(majors, strconv.Itoa(installation.Major))
	}
	if opts.Major == 0 {
		return Installation{}, pgmedic.Errorf(pgmedic.KindUsage,
			"install it: apt-get install postgresql, or name the folder that holds initdb and postgres",
			"no PostgreSQL server is installed on this machine")
	}
	installed := "no other version is"
	if len(majors) > 0 {
		installed = "installed: " + strings.Join(slices.Compact(majors), ", ")
	}
	return Installation{}, pgmedic.Errorf(pgmedic.KindUsage,
		fmt.Sprintf("install it: apt-get install postgresql-%d, or name the folder that holds its initdb and postgres", opts.Major),
		"PostgreSQL %d is not installed on this machine (%s)", opts.Major, installed)
}

// inspectChosen checks the folder that the caller named.
func inspectChosen(ctx context.Context, opts Options) (Installation, error) {
	dir, err := filepath.Abs(opts.BinDir)
	if err != nil {
		return Installation{}, fmt.Errorf("resolve %s: %w", opts.BinDir, err)
	}
	for _, program := range []string{"initdb", "postgres"} {
		if !isExecutable(filepath.Join(dir, program)) {
			return Installation{}, pgmedic.Errorf(pgmedic.KindUsage,
				"name the folder that holds initdb and postgres, such as /usr/lib/postgresql/15/bin",
				"%s holds no program %s", dir, program)
		}
	}
	installation, err := inspect(ctx, dir)
	if err != nil {
		return Installation{}, err
	}
	if opts.Major != 0 && opts.Major != installation.Major {
		return Installation{}, pgmedic.Errorf(pgmedic.KindUsage, "name the folder of the wanted version",
			"%s holds PostgreSQL %s where %d is wanted", dir, installation.Version, opts.Major)
	}
	return installation, nil
}

// versionLine matches "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)".
var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// inspect asks the programs in a folder for their version.
func inspect(ctx context.Context, binDir string) (Installation, error) {
	out, err := output(ctx, filepath.Join(binDir, "postgres"), "--version")
	if err != nil {
		return Installation{}, err
	}
	match := versionLine.FindStringSubmatch(out)
	if match == nil {
		return Installation{}, fmt.Errorf("no version in the answer of %s --version", filepath.Join(binDir, "postgres"))
	}
	major, err := strconv.Atoi(match[2])
	if err != nil {
		return Installation{}, fmt.Errorf("read version %q: %w", match[1], err)
	}
	return Installation{BinDir: binDir, Major: major, Version: match[1]}, nil
}

// output runs a short command and returns what it printed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = childEnvironment("/")
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s: %w %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
