package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
)

// The search paths that schedulers give to jobs.
const (
	// cronPath is that of Vixie cron and its descendants, as crontab(5) documents it.
	cronPath = "/usr/bin:/bin"
	// systemdPath is the default of systemd.exec(5).
	systemdPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// strays are the client programs that this process finds by its PATH alone, or finds newer
// ones of, each with its folder: a job would not find them, or one too old for the server.
func (p planner) strays(ctx context.Context, jobsPath string) (all []pgtool.Tool) {
	mine, jobs := p.tools(), p.tools()
	mine.Path, jobs.Path = p.variable("PATH"), jobsPath
	for _, name := range []string{"pg_dump", "pg_restore"} {
		here, found := mine.Newest(ctx, name)
		if !found {
			continue // which check says
		}
		if there, found := jobs.Newest(ctx, name); !found || there.Major < here.Major {
			all = append(all, here)
		}
	}
	return all
}

// strayError says which programs jobs would not find.
func (p planner) strayError(strays []pgtool.Tool) error {
	var names, dirs []string
	for _, t := range strays {
		names = append(names, fmt.Sprintf("%s %s", t.Name, t.Version))
		if dir := filepath.Dir(t.Path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "write PGMEDIC_POSTGRES_DIRS="+strings.Join(dirs, ":")+" into the .env file, or postgres.bin_dirs into pgmedic.yaml",
		"jobs do not have the PATH of this shell, and would not find %s in %s", strings.Join(names, " and "), strings.Join(dirs, " and "))
}
