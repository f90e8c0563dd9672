package extract

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strconv"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/words"
)

// databaseFile matches files of databases in a data folder, and gives their OIDs.
var databaseFile = regexp.MustCompile(`^(?:base|pg_tblspc/\d+/PG_[^/]+)/(\d+)/`)

// DatabaseBytes returns the size of the files that a database has in a base backup: what is taken
// out of it is smaller, since it is compressed and has no indexes. It is 0 for a database that the
// backup does not name, as one that was made since. It reads the list of all files.
func DatabaseBytes(ctx context.Context, source physical.Source, database string) (bytes int64, err error) {
	oid := ""
	for _, d := range source.Backup.Physical.Databases {
		if d.Name == database {
			oid = strconv.FormatUint(uint64(d.OID), 10)
		}
	}
	if oid == "" {
		return 0, nil
	}
	list, closer, err := source.Files(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	for {
		e, err := list.Next()
		switch {
		case errors.Is(err, io.EOF):
			return bytes, nil
		case err != nil:
			return 0, err
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case e.File == nil:
			continue
		}
		if m := databaseFile.FindStringSubmatch(e.File.Path); m != nil && m[1] == oid {
			bytes += e.File.SizeBytes
		}
	}
}

// checkRoom refuses to take out what has no room in a folder. bytes is the size of the tables and
// large objects on the recovered server.
func checkRoom(dir string, bytes int64) error {
	free, _, err := cluster.FreeBytes(dir)
	if err != nil {
		return err
	}
	return refuse(dir, bytes, free)
}

// refuse is checkRoom where it is known how much is free.
func refuse(dir string, bytes, free int64) error {
	if bytes <= free {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "free room there, or name another folder with --scratch-dir; compressed it can be much smaller: --skip-disk-check tries it",
		"the cluster is recovered, and what is to be taken out of it has %s, of which the disk of %s has %s left", words.Bytes(bytes), dir, words.Bytes(free))
}
