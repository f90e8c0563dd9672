package main

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// sinceOf reads --since.
func (cmd *reportCommand) sinceOf() (inspect.Since, error) {
	if cmd.flags.since == "" {
		return inspect.Since{Ago: inspect.SinceDefault}, nil
	}
	if cmd.flags.noHistory || cmd.cfg.Report.History == historyOff {
		return inspect.Since{}, pgmedic.Errorf(pgmedic.KindUsage, "leave out --no-history, or set report.history to a file",
			"--since needs the history, which is off")
	}
	s, err := parseSince(cmd.flags.since)
	if err != nil {
		return s, err
	}
	if s.At.After(cmd.now()) {
		return s, pgmedic.Errorf(pgmedic.KindUsage, "give a day that has been", "--since %s is to come", cmd.flags.since)
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
func (cmd *reportCommand) historyPath() (string, error) {
	if path := cmd.cfg.Report.History; path != "" {
		return path, nil
	}
	state, err := cmd.stateDir()
	if err != nil {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "name a file with report.history, or off", "no home folder is known to keep the history in")
	}
	return filepath.Join(state, "history.sqlite"), nil
}

// stateDir is the folder for what is kept from run to run.
func (e *env) stateDir() (string, error) {
	// A relative one is to be ignored, says the XDG Base Directory
	// Specification.
	if state := e.variable("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "pgmedic"), nil
	}
	if home := e.variable("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "pgmedic"), nil
	}
	return "", pgmedic.Errorf(pgmedic.KindUsage, "set XDG_STATE_HOME or HOME", "no home folder is known")
}

// remember compares a reading with earlier ones that the history has, and keeps it.
func (cmd *reportCommand) remember(ctx context.Context, r *reading.Reading, since inspect.Since) (inspect.Earlier, error) {
	if cmd.flags.noHistory || cmd.cfg.Report.History == historyOff {
		return inspect.Earlier{}, nil
	}
	h := inspect.History{
		Input: cmd.flags.input != "", Since: since, UnusedIndexAge: cmd.cfg.Report.Thresholds.UnusedIndexAge, Now: cmd.now, Logger: cmd.log,
	}
	if !h.Input {
		h.Node = cmd.node()
	}
	var err error
	if h.Path, err = cmd.historyPath(); err != nil {
		h.Skip(r, err)
		return inspect.Earlier{}, nil
	}
	return h.Remember(ctx, r)
}

// node names the server by how it is reached.
func (cmd *reportCommand) node() string {
	t, err := cmd.servers.target()
	if err != nil {
		return ""
	}
	if len(cmd.args) > 0 {
		t = t.WithDatabase(cmd.args[0])
	}
	return address(t)
}

// address is host and port of a target, from libpq's environment and service files where
// the target leaves them to those; or empty.
func address(t postgres.Target) string {
	cfg, err := pgx.ParseConfig(t.Conninfo())
	if err != nil { // whoever connects reports it
		return ""
	}
	return net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
}
