// Package pgtool runs PostgreSQL's client programs: it finds the right version
// of pg_dump, pg_restore, psql and pg_dumpall, runs them so that they end when we end,
// reads their exit status before it believes their output, and reports their
// errors without quoting rows.
package pgtool

import (
	"cmp"
	"context"
	"fmt"
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

// Tool is an installed client program.
type Tool struct {
	Name string // pg_dump
	Path string
	// Version is its own, such as "15.18"; Major is 15.
	Version string
	Major   int
}

// Finder looks for client programs.
type Finder struct {
	// Dirs are searched first: folders that hold the programs, or that hold
	// <major>/bin folders which do.
	Dirs []string
	// Path is searched next, in the form of $PATH. Empty: $PATH of this process.
	Path string
}

// Newest returns the program of the highest major version, and false where none is found.
func (f Finder) Newest(ctx context.Context, name string) (newest Tool, found bool) {
	for _, path := range f.candidates(name) {
		if t, err := probe(ctx, name, path); err == nil && t.Major > newest.Major {
			newest, found = t, true
		}
	}
	return newest, found
}

// Find returns the program of the lowest major version that is at least
// atLeast, for pg_dump refuses a server newer than itself. Neither finding none
// nor finding only older ones can be mended by trying again: KindUsage.
func (f Finder) Find(ctx context.Context, name string, atLeast int) (Tool, error) {
	var best, newest Tool
	for _, path := range f.candidates(name) {
		t, err := probe(ctx, name, path)
		if err != nil {
			continue
		}
		if t.Major >= atLeast && (best.Path == "" || t.Major < best.Major) {
			best = t
		}
		if t.Major > newest.Major {
			newest = t
		}
	}
	if err := ctx.Err(); err != nil {
		return Tool{}, fmt.Errorf("look for %s: %w", name, context.Cause(ctx))
	}
	if best.Path != "" {
		return best, nil
	}
	hint := fmt.Sprintf("install it (Debian, Ubuntu: apt-get install postgresql-client-%d), or name its folder in PGMEDIC_POSTGRES_DIRS", max(atLeast, 15))
	if newest.Path != "" {
		return Tool{}, pgmedic.Errorf(pgmedic.KindUsage, hint,
			"%s %d or newer is needed; the newest found is %s at %s", name, atLeast, newest.Version, newest.Path)
	}
	return Tool{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "%s is not installed", name)
}

// candidates lists paths to try, each once, configured folders first.
func (f Finder) candidates(name string) []string {
	var dirs []string
	for _, d := range f.Dirs {
		dirs = append(dirs, d)
		dirs = append(dirs, glob(filepath.Join(d, "*", "bin"))...)
	}
	dirs = append(dirs, filepath.SplitList(cmp.Or(f.Path, os.Getenv("PATH")))...)
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
		"/opt/homebrew/opt/libpq/bin",
	} {
		dirs = append(dirs, glob(pattern)...)
	}
	var paths []string
	for _, d := range dirs {
		path, err := exec.LookPath(filepath.Join(d, name))
		if err != nil {
			continue
		}
		if target, err := filepath.EvalSymlinks(path); err == nil {
			path = target
		}
		// Debian's wrapper picks a version by itself; its programs are found
		// in their own folders.
		if filepath.Base(path) == "pg_wrapper" || slices.Contains(paths, path) {
			continue
		}
		paths = append(paths, path)
	}
	return paths
}

func glob(pattern string) []string {
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return nil // a configured folder whose name has an open bracket
	}
	return dirs
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)\S*`)

const probeTimeout = 10 * time.Second

func probe(ctx context.Context, name, path string) (Tool, error) {
	// Something of that name that waits for its input is none of ours.
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = environment(Command{})
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return Tool{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	m := versionLine.FindStringSubmatch(string(out))
	if m == nil {
		return Tool{}, fmt.Errorf("ask %s for its version: it prints none", path)
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return Tool{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return Tool{
		Name: name, Path: path, Major: major,
		Version: strings.TrimPrefix(m[0], "(PostgreSQL) "),
	}, nil
}

// AtLeast is the major version of the pg_dump that made a backup: an older client
// program may not know all that it wrote. It is zero, which any version satisfies,
// where none is recorded.
func AtLeast(b *pgmedic.Backup) int {
	// Before a release it reads 19beta1 or 19rc1.
	version := b.Programs.PgDump
	digits := strings.TrimLeft(version, "0123456789")
	n, _ := strconv.Atoi(strings.TrimSuffix(version, digits))
	return n
}
