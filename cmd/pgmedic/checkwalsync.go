package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/walstream"
	"github.com/pgmedic/pgmedic/internal/words"
)

// candidates reads synchronous_standby_names: the names in it, in lower case as the server
// compares them, and how many of them a commit waits for.
func candidates(setting string) (names []string, needed int) {
	list, needed := strings.TrimSpace(setting), 1
	if before, inside, found := strings.Cut(list, "("); found && !strings.Contains(before, `"`) {
		if how := strings.Fields(before); len(how) > 0 {
			if n, err := strconv.Atoi(how[len(how)-1]); err == nil {
				needed = n
			}
		}
		list = strings.TrimSuffix(strings.TrimSpace(inside), ")")
	}
	var name strings.Builder
	quoted := false
	for _, c := range list + "," {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			if text := strings.ToLower(strings.TrimSpace(name.String())); text != "" {
				names = append(names, text)
			}
			name.Reset()
		default:
			name.WriteRune(c)
		}
	}
	return names, needed
}

// synchronous: which commits wait for the stream, and what keeps them from ending.
func (q walQuestion) synchronous(f *walFacts, ok sayOK, warn sayWarn) {
	const name = "wal synchronous"
	names, needed := candidates(f.Synchronous)
	var stored, spooled, all, others int
	for _, n := range names {
		switch n {
		case "pgmedic wal":
			stored++
		case walstream.SyncName:
			spooled++
		case "*":
			all++
		default:
			others++
		}
	}
	const set = "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (pgmedic_sync, STANDBY)'; SELECT pg_catalog.pg_reload_conf(); -- STANDBY is the application_name of a standby"
	switch {
	case stored > 0 && q.Streams:
		warn(name, "name a second candidate in synchronous_standby_names, so that the server goes on when one is away",
			"synchronous_standby_names has the stream: commits wait until the store has their WAL, and hang while nothing streams")
	case all > 0 && q.Streams:
		warn(name, "name the standbys in synchronous_standby_names", "synchronous_standby_names has *, which the stream fits too: commits may wait until the store has their WAL, and hang while nothing streams")
	case q.Sync && spooled == 0:
		warn(name, set, "wal.sync is set, and no commit waits for the stream: synchronous_standby_names does not name %s", walstream.SyncName)
	case q.Sync && (f.Commit == "off" || f.Commit == "local" || f.Commit == "remote_write"):
		warn(name, "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_catalog.pg_reload_conf();",
			"wal.sync is set, and synchronous_commit is %s: commits do not wait until their WAL is flushed in the spool", f.Commit)
	case q.Sync && others < needed:
		warn(name, set, "%s is in synchronous_standby_names and commits wait for it; without enough other candidates they hang while the stream is away or its spool is full", walstream.SyncName)
	case q.Sync:
		ok(name, "commits wait for %s, or for another of %s", walstream.SyncName, words.Plural(len(names), "candidate"))
	case spooled > 0:
		warn(name, "set wal.sync, or take the name out of synchronous_standby_names", "synchronous_standby_names has %s, and wal.sync is not set here: commits wait for a stream that may not run", walstream.SyncName)
	}
}

// checkSpool says where WAL waits for the store, and whether there is room for it.
func (cmd *checkCommand) checkSpool(ctx context.Context, l *checklist) {
	const name = "wal spool"
	if !cmd.cfg.WAL.Sync {
		return
	}
	dir, err := cmd.spoolDir()
	if err != nil {
		l.fail(name, err)
		return
	}
	there := dir
	for _, err := os.Stat(there); errors.Is(err, fs.ErrNotExist) && there != filepath.Dir(there); _, err = os.Stat(there) {
		there = filepath.Dir(there)
	}
	usage, err := disk.UsageWithContext(ctx, there)
	if err != nil {
		l.add(name, pgmedic.OutcomeSkipped, "not checked: the disk of "+dir+" can't be asked for its free space", "")
		return
	}
	most, free := int64(cmd.cfg.WAL.SpoolMB)<<20, int64(min(usage.Free, 1<<62))
	if free < most {
		l.add(name, pgmedic.OutcomeWarn, "the disk of "+dir+" has "+words.Bytes(free)+" free, and the spool may take "+words.Bytes(most)+" (wal.spool_max_mb): while it is full, commits that wait for it do not end",
			"make room, or name a folder on another disk (wal.spool)")
		return
	}
	l.add(name, pgmedic.OutcomeOK, "at most "+words.Bytes(most)+" in "+dir+", which has "+words.Bytes(free)+" free; it is not encrypted, and holds rows of all databases until they are stored",
		"advice: put it on a disk that is encrypted")
}
