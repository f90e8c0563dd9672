package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/config"
)

// errNoHome means that the usual place of the audit log is not known.
var errNoHome = errors.New("no home folder is known to keep the audit log in")

// hintAuditFile is for a usual place that is of no use.
const hintAuditFile = "set audit.file (PGMEDIC_AUDIT_FILE) to a file that this user can write, or to off; docs/audit.md#messages"

// noPlace reports whether an error of the audit log means that nothing can be written in
// the usual place, which is used because none was configured. A full disk is not among
// these causes: the place is good.
func noPlace(c config.Audit, err error) bool {
	if err == nil || c.File != "" || c.KeyFile != "" {
		return false
	}
	switch pgmedic.KindOf(err) {
	case pgmedic.KindIntegrity, pgmedic.KindDegraded: // it is damaged, or the record is written
		return false
	}
	for _, cause := range []error{errNoHome, fs.ErrPermission, fs.ErrNotExist, unix.EROFS, unix.ENOTDIR} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// checkAuditPaths refuses an audit log whose files are not different ones.
func (j job) checkAuditPaths() error {
	if j.cfg.Audit.File == config.AuditOff {
		return nil
	}
	if _, err := j.auditLog(); err != nil && !errors.Is(err, errNoHome) {
		return err
	}
	return nil
}

// distinct refuses that the log, its key, and the files that records are forwarded to are
// one file, by whatever links.
func distinct(file, key string, forward []string) error {
	if sameFile(file, key) {
		return pgmedic.Errorf(pgmedic.KindUsage, "give audit.key_file another name", "audit.file and audit.key_file are one file, %s", file)
	}
	for _, to := range forward {
		kind, path, _ := strings.Cut(to, ":")
		if kind == "file" && (sameFile(path, file) || sameFile(path, key)) {
			return pgmedic.Errorf(pgmedic.KindUsage, "name another file in audit.forward", "audit.forward has the audit log itself, or its key: %s", path)
		}
	}
	return nil
}

// sameFile reports whether two paths lead to one file, which need not exist yet.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err == nil {
		if other, err := os.Stat(b); err == nil {
			return os.SameFile(one, other)
		}
	}
	return resolved(a) == resolved(b)
}

// resolved is a path without symbolic links, as far as it exists.
func resolved(path string) string {
	const mostLinks = 40 // as the kernel follows
	for range mostLinks {
		path = filepath.Clean(path)
		if target, err := os.Readlink(path); err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(path), target)
			}
			path = target
			continue
		}
		break
	}
	if dir := filepath.Dir(path); dir != path {
		return filepath.Join(resolved(dir), filepath.Base(path))
	}
	return path
}

// auditLog is the log that the configuration names. It is not opened yet.
func (j job) auditLog() (*audit.Log, error) {
	path, key, err := auditPaths(j.cfg.Audit, j.variable, os.Geteuid() == 0)
	if err != nil {
		return nil, err
	}
	if err := distinct(path, key, j.cfg.Audit.Forward); err != nil {
		return nil, err
	}
	o := audit.Options{Path: path, KeyPath: key, Keep: j.cfg.Audit.KeepLength(), Host: hostName(), Version: j.version, Now: j.now}
	for _, to := range j.cfg.Audit.Forward {
		switch kind, path, _ := strings.Cut(to, ":"); kind {
		case "file":
			o.Sinks = append(o.Sinks, audit.File{Path: path})
		case "stderr":
			o.Sinks = append(o.Sinks, audit.Stream{Name: to, To: jsonLines{j.stderr}})
		case "webhook":
			if err := j.checkHook(path); err != nil {
				return nil, err
			}
			o.Sinks = append(o.Sinks, &auditHook{job: j, channel: path})
		default:
			o.Sinks = append(o.Sinks, audit.Syslog{Socket: path})
		}
	}
	return audit.New(o), nil
}

// auditPaths are where the log and its key are.
func auditPaths(c config.Audit, variable func(string) string, root bool) (file, key string, err error) {
	file = c.File
	state, home := variable("XDG_STATE_HOME"), variable("HOME")
	switch {
	case file != "":
	case filepath.IsAbs(state): // a relative one is to be ignored, says the XDG Base Directory Specification
		file = filepath.Join(state, "pgmedic", "audit.jsonl")
	case root:
		file = "/var/lib/pgmedic/audit.jsonl"
	case filepath.IsAbs(home):
		file = filepath.Join(home, ".local", "state", "pgmedic", "audit.jsonl")
	default:
		return "", "", pgmedic.Errorf(pgmedic.KindUsage, hintAuditFile, "%w", errNoHome)
	}
	return file, cmp.Or(c.KeyFile, strings.TrimSuffix(file, filepath.Ext(file))+".key"), nil
}
