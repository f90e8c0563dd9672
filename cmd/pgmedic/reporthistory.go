package main

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// sinceOf reads --since.
func (a *app) sinceOf(flags reportFlags) (inspect.Since, error) {
	if flags.since == "" {
		return inspect.Since{Ago: inspect.SinceDefault}, nil
	}
	if flags.noHistory || a.cfg.Report.History == historyOff {
		return inspect.Since{}, pgmedic.Errorf(pgmedic.KindUsage, "leave out --no-history, or set report.history to a file",
			"--since needs the history, which is off")
	}
	s, err := parseSince(flags.since)
	if err != nil {
		return s, err
	}
	if s.At.After(a.now()) {
		return s, pgmedic.Errorf(pgmedic.KindUsage, "give a day that has been", "--since %s is to come", flags.since)
	}
	return s, nil
}

func parseSince(text string) (inspect.Since, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return inspect.Since{At: at.UTC()}, nil
		}
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil { // a number alone could be a year, or days
		if d, err := config.ParseDuration(text); err == nil && d > 0 {
			return inspect.Since{Ago: d}, nil
		}
	}
	return inspect.Since{}, pgmedic.Errorf(pgmedic.KindUsage, "give a time such as 24h or 7d, or a day in UTC such as 2026-11-20",
		"--since %q is not a time", text)
}

// historyOff is the value of report.history that keeps nothing.
const historyOff = "off"

// historyPath is the file of the history.
func (a *app) historyPath() (string, error) {
	if path := a.cfg.Report.History; path != "" {
		return path, nil
	}
	// A relative one is to be ignored, says the XDG Base Directory
	// Specification.
	if state := a.variable("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "pgmedic", "history.sqlite"), nil
	}
	if home := a.variable("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "pgmedic", "history.sqlite"), nil
	}
	return "", pgmedic.Errorf(pgmedic.KindUsage, "name a file with report.history, or off", "no home folder is known to keep the history in")
}

// variable is an environment variable of this run.
func (a *app) variable(name string) string {
	for _, kv := range a.environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// remember compares a reading with earlier ones that the history has, and keeps it.
func (a *app) remember(ctx context.Context, r *reading.Reading, args []string, flags reportFlags, since inspect.Since) (inspect.Earlier, error) {
	if flags.noHistory || a.cfg.Report.History == historyOff {
		return inspect.Earlier{}, nil
	}
	h := inspect.History{
		Input: flags.input != "", Since: since, UnusedIndexAge: a.cfg.Report.Thresholds.UnusedIndexAge, Now: a.now, Logger: a.log,
	}
	if !h.Input {
		h.Node = a.node(args)
	}
	var err error
	if h.Path, err = a.historyPath(); err != nil {
		h.Skip(r, err)
		return inspect.Earlier{}, nil
	}
	return h.Remember(ctx, r)
}

// node names the server by how it is reached.
func (a *app) node(args []string) string {
	t, err := a.target()
	if err != nil {
		return ""
	}
	if len(args) > 0 {
		t = t.WithDatabase(args[0])
	}
	// It was connected with before; this reads libpq's environment and service
	// files, too.
	cfg, err := pgx.ParseConfig(t.Conninfo())
	if err != nil {
		return ""
	}
	return net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
}
