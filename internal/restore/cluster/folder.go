package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/recovery"
)

const (
	controlFile = "global/pg_control"
	pidFile     = "postmaster.pid"
	versionFile = "PG_VERSION"
)

func conflict(hint, format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindConflict, hint, format, args...)
}

// inspect says what the data folder is, and refuses folders that must not be written to.
func inspect(o Options) (State, error) {
	all := o.folders()
	for i, dir := range all {
		if err := checkParents(dir); err != nil {
			return "", err
		}
		direct, err := resolved(dir)
		if err != nil {
			return "", pgmedic.Errorf(pgmedic.KindUnreachable, "run pgmedic as the user that runs PostgreSQL", "see where %s leads: %w", dir, err)
		}
		all[i] = direct
	}
	for i, dir := range all {
		for j, other := range all {
			if i != j && (dir == other || strings.HasPrefix(other, dir+"/")) {
				return "", pgmedic.Errorf(pgmedic.KindUsage, "name a folder of its own for the data, for the WAL, and for each tablespace", "%s is in %s, or the same folder", other, dir)
			}
		}
		if err := checkParents(dir); err != nil {
			return "", err
		}
	}
	state, err := stateOf(o.Dir)
	if err != nil {
		return "", err
	}
	switch {
	case state == Absent:
		if err := checkMakeable(o.Dir); err != nil {
			return "", err
		}
	case state == Existing && !o.Delta:
		return "", conflict("name another folder, or keep what is equal with --delta", "%s is the data folder of a cluster", o.Dir)
	case state == Unfinished && !o.Delta:
		return "", conflict("go on with --delta, or delete the folder", "%s has an unfinished restore", o.Dir)
	case state == Existing || state == Unfinished:
		if err := o.checkCluster(state); err != nil {
			return "", err
		}
	}
	return state, o.checkOthers(state)
}

// resolved is a path without links, as far as it exists: two paths can lead to one folder.
func resolved(dir string) (string, error) {
	direct, err := filepath.EvalSymlinks(dir)
	if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
		return direct, err
	}
	parent, err := resolved(filepath.Dir(dir))
	return filepath.Join(parent, filepath.Base(dir)), err
}

// stateOf says what a folder is. What is none of a cluster is an error.
func stateOf(dir string) (State, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Absent, nil
	case errors.Is(err, syscall.ENOTDIR):
		return "", conflict("name a folder", "%s is not a folder", dir)
	case err != nil:
		return "", pgmedic.Errorf(pgmedic.KindUnreachable, "run pgmedic as the user that runs PostgreSQL", "read the target: %w", err)
	case len(entries) == 0:
		return Empty, nil
	}
	if info, err := os.Lstat(filepath.Join(dir, controlFile)); err == nil && info.Mode().IsRegular() {
		return Existing, nil
	}
	if _, err := os.Lstat(filepath.Join(dir, recovery.FileName)); err == nil {
		return Unfinished, nil
	}
	return "", conflict("name an empty folder, or one that does not exist", "%s is not empty, and is not a data folder of PostgreSQL", dir)
}

// checkCluster refuses a cluster that is running, or is another one.
func (o Options) checkCluster(state State) error {
	if err := checkStopped(o.Dir); err != nil {
		return err
	}
	var system string
	if state == Existing {
		id, err := systemOf(filepath.Join(o.Dir, controlFile))
		if err != nil {
			return err
		}
		system = strconv.FormatUint(id, 10)
	} else {
		p, err := recovery.Read(filepath.Join(o.Dir, recovery.FileName))
		if err != nil {
			return conflict("delete the folder", "%s has an unfinished restore, of which it is not known what it is: %w", o.Dir, err)
		}
		system = p.SystemIdentifier
	}
	if system != o.Plan.SystemIdentifier {
		return conflict("name another folder, or delete this one yourself", "%s has the cluster with system identifier %s, and the backup is of %s", o.Dir, system, o.Plan.SystemIdentifier)
	}
	return nil
}

// systemOf reads the system identifier of a cluster, with which pg_control begins.
func systemOf(file string) (uint64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, pgmedic.Errorf(pgmedic.KindUnreachable, "run pgmedic as the user that runs PostgreSQL", "read which cluster it is: %w", err)
	}
	var id [8]byte
	_, err = io.ReadFull(f, id[:])
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, conflict("delete the folder, or name another one", "read which cluster it is: %w", err)
	}
	return binary.NativeEndian.Uint64(id[:]), nil
}

// checkStopped refuses a folder that a running server uses.
func checkStopped(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, pidFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "run pgmedic as the user that runs PostgreSQL", "read whether a server runs: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid == 0 {
		return conflict("stop the server; delete "+pidFile+" if none runs", "%s in %s is not readable: a server may be running", pidFile, dir)
	}
	if pid < 0 { // of postgres --single
		pid = -pid
	}
	if err := syscall.Kill(pid, 0); err == nil || errors.Is(err, syscall.EPERM) {
		return conflict("stop the server; delete "+pidFile+" if the process is another program", "a server runs in %s: process %d", dir, pid)
	}
	return nil
}

// checkParents refuses a folder within the data folder of a cluster.
func checkParents(dir string) error {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if _, err := os.Lstat(filepath.Join(parent, versionFile)); err == nil {
			return conflict("name a folder outside of it", "%s is within %s, a folder of a cluster", dir, parent)
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

// checkMakeable refuses a folder that is not there, and that this user may not make.
func checkMakeable(dir string) error {
	parent := filepath.Dir(dir)
	for parent != filepath.Dir(parent) {
		if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) {
			break // what else is wrong with it is said by Access
		}
		parent = filepath.Dir(parent)
	}
	if err := unix.Access(parent, unix.W_OK|unix.X_OK); err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "make the folder as root for the user that runs PostgreSQL: install -d -m 700 -o postgres -g postgres "+dir+"; or name another one",
			"this user can't make %s: %w", dir, &fs.PathError{Op: "write to", Path: parent, Err: err})
	}
	return nil
}

// checkOthers refuses folders of WAL and of tablespaces that something is in, unless that
// is what an earlier restore put there.
func (o Options) checkOthers(state State) error {
	known := state == Existing || state == Unfinished
	links := map[string]string{"pg_wal": o.WALDir}
	for _, t := range o.Plan.Tablespaces {
		if t.OID != 0 {
			links[filepath.Join("pg_tblspc", strconv.FormatUint(uint64(t.OID), 10))] = t.To
		}
	}
	for _, dir := range o.folders()[1:] {
		s, err := os.ReadDir(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return pgmedic.Errorf(pgmedic.KindUsage, "name a folder that the user that runs PostgreSQL may read", "read the folder of a tablespace, or of WAL: %w", err)
		case len(s) == 0:
			continue
		}
		linked := false
		for link, to := range links {
			at, err := os.Readlink(filepath.Join(o.Dir, link))
			linked = linked || known && to == dir && err == nil && filepath.Clean(at) == dir
		}
		if !linked {
			return conflict(fmt.Sprintf("give it another place: --tablespace %s=/another/path, or --wal-dir for the WAL", o.from(dir)), "%s is not empty: it may belong to a live server", dir)
		}
		if err := o.checkShared(dir); err != nil {
			return err
		}
	}
	return nil
}

// from returns where a tablespace lay that goes to a folder.
func (o Options) from(dir string) string {
	i := slices.IndexFunc(o.Plan.Tablespaces, func(t recovery.Tablespace) bool { return t.To == dir })
	if i < 0 {
		return dir
	}
	return o.Plan.Tablespaces[i].From
}
