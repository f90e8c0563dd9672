package sqlfiles

import (
	"context"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/pgdata"
)

// list lists a folder, in one statement. One that is not there has nothing.
func (c *Cluster) list(ctx context.Context, dir string) ([]pgdata.Entry, error) {
	rows, err := c.conn.Query(ctx, `
SELECT f, s.isdir, s.size, extract(epoch FROM s.modification)::bigint, coalesce(extract(epoch FROM s.change), 0)::bigint
FROM pg_catalog.pg_ls_dir($1, true, false) AS f CROSS JOIN LATERAL pg_catalog.pg_stat_file($1 || '/' || f, true) AS s
WHERE s.size IS NOT NULL ORDER BY f COLLATE "C"`, dir)
	if err != nil {
		return nil, lost(ctx, err, attemptedList)
	}
	var all []pgdata.Entry
	var e pgdata.Entry
	var name string
	var modified, changed int64
	_, err = pgx.ForEachRow(rows, []any{&name, &e.Folder, &e.SizeBytes, &modified, &changed}, func() error {
		e.Path, e.Mode, e.ModifiedAt, e.ChangedAt = path.Join(dir, name), c.facts.mode(e.Folder), time.Unix(modified, 0), time.Unix(changed, 0)
		if e.Folder {
			e.SizeBytes = 0
		}
		all = append(all, e)
		return nil
	})
	return all, lost(ctx, err, attemptedList)
}

const attemptedList = "list a folder of the data directory"

var (
	// database matches the folder of a database.
	database = regexp.MustCompile(`^(base|pg_tblspc/\d+/PG_[^/]+)/\d+$`)
	// tablespace matches that of a tablespace.
	tablespace = regexp.MustCompile(`^pg_tblspc/(\d+)$`)
	// fork matches files of relations, temporary ones, and those without the letters: their number,
	// and behind an underscore which fork it is.
	fork      = regexp.MustCompile(`^(\d+)(?:_(fsm|vm|init))?(?:\.\d+)?$`)
	temporary = regexp.MustCompile(`^t\d+_\d+(?:_(?:fsm|vm|init))?(?:\.\d+)?$`)
)

// hollow reports whether nothing is taken of what a folder holds: the server makes it again, or
// it is of this server alone (excludeDirContents of basebackup.c). WAL is stored by itself.
func hollow(folder string) bool {
	switch folder {
	case "pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans":
		return true
	}
	return false
}

// excluded reports whether a file of this name is left out wherever it is (excludeFiles of
// basebackup.c), besides sockets.
func excluded(name string) bool {
	switch name {
	case "postmaster.pid", "postmaster.opts", pgdata.LabelPath, pgdata.MapPath, "backup_manifest", "postgresql.auto.conf.tmp", "current_logfiles.tmp", ".DS_Store":
		return true
	}
	return strings.HasPrefix(name, "pg_internal.init") || strings.HasPrefix(name, "pgsql_tmp") ||
		strings.HasPrefix(name, ".s.PGSQL.") && !strings.HasSuffix(name, ".lock")
}

// taken returns what a backup takes of a folder that was listed. version is the folder that the
// cluster has in those of tablespaces. It is pure, and returns a part of what it was given.
func taken(dir string, all []pgdata.Entry, version string, spaces []Tablespace) (entries []pgdata.Entry) {
	unlogged := map[string]bool{}
	entries = all[:0]
	inDatabase := database.MatchString(dir)
	for _, e := range all {
		if m := fork.FindStringSubmatch(path.Base(e.Path)); inDatabase && m != nil && m[2] == "init" {
			unlogged[m[1]] = true
		}
	}
	for _, e := range all {
		name := path.Base(e.Path)
		m := fork.FindStringSubmatch(name)
		switch {
		case excluded(name), e.Path == pgdata.ControlPath: // which is last
		case inDatabase && temporary.MatchString(name):
		case inDatabase && m != nil && m[2] != "init" && unlogged[m[1]]:
		case tablespace.MatchString(dir) && name != version:
		case tablespace.MatchString(e.Path) && !known(name, spaces): // it was made since, and is in the WAL
		default:
			entries = append(entries, e)
		}
	}
	return entries
}

func known(oid string, spaces []Tablespace) bool {
	for _, t := range spaces {
		if oid == strconv.FormatUint(uint64(t.OID), 10) {
			return true
		}
	}
	return false
}
