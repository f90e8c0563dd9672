package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/monitor"
	"github.com/pgmedic/pgmedic/internal/monitor/history"
)

const (
	// sinceDefault is how far back trends go and findings look, whatever trends
	// are asked for: the same hours of a week.
	sinceDefault = 7 * 24 * time.Hour
	// othersSince is how far back the server's other databases are compared.
	othersSince = 25 * time.Hour
)

// since is where --since begins: at a moment, or so long before the reading.
type since struct {
	at  time.Time
	ago time.Duration
}

// before is the moment for a reading taken at another.
func (s since) before(taken time.Time) time.Time {
	if s.at.IsZero() {
		return taken.Add(-s.ago)
	}
	return s.at
}

// sinceOf reads --since.
func (a *app) sinceOf(flags reportFlags) (since, error) {
	if flags.since == "" {
		return since{ago: sinceDefault}, nil
	}
	if flags.noHistory || a.cfg.Report.History == historyOff {
		return since{}, pgmedic.Errorf(pgmedic.KindUsage, "leave out --no-history, or set report.history to a file",
			"--since needs the history, which is off")
	}
	s, err := parseSince(flags.since)
	if err != nil {
		return s, err
	}
	if s.at.After(a.now()) {
		return s, pgmedic.Errorf(pgmedic.KindUsage, "give a day that has been", "--since %s is to come", flags.since)
	}
	return s, nil
}

func parseSince(text string) (since, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return since{at: at.UTC()}, nil
		}
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil { // a number alone could be a year, or days
		if d, err := config.ParseDuration(text); err == nil && d > 0 {
			return since{ago: d}, nil
		}
	}
	return since{}, pgmedic.Errorf(pgmedic.KindUsage, "give a time such as 24h or 7d, or a day in UTC such as 2026-11-20",
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

// remembered are the earlier readings that the history has.
type remembered struct {
	judged []*monitor.Reading // what findings rest on
	shown  []*monitor.Reading // what trends are asked for
}

// remember returns the earlier readings that the history has of what was looked
// at, and keeps this one. Whatever is wrong with the history is listed as
// skipped: no report fails for it. The error is an interrupt.
func (a *app) remember(ctx context.Context, r *monitor.Reading, args []string, flags reportFlags, s since) (remembered, error) {
	if flags.noHistory || a.cfg.Report.History == historyOff {
		return remembered{}, nil
	}
	node := ""
	if flags.input == "" {
		node = a.node(args)
	}
	// A reading of some sections would look like one of a server without the others.
	earlier, problems := a.useHistory(ctx, r, node, flags.input != "" || r.Sections != nil, s)
	if ctx.Err() != nil {
		return remembered{}, context.Cause(ctx)
	}
	for _, p := range problems {
		a.log.Warn("the history of reports: " + p)
		r.Skipped = append(r.Skipped, monitor.Skipped{Section: monitor.SectionTrends, Query: "history", Reason: p})
	}
	return earlier, nil
}

// useHistory reads from the history and adds to it.
func (a *app) useHistory(ctx context.Context, r *monitor.Reading, node string, readOnly bool, s since) (earlier remembered, problems []string) {
	problem := func(err error) {
		if err != nil {
			problems = append(problems, oneLine(err.Error()))
		}
	}
	path, err := a.historyPath()
	if err != nil {
		problem(err)
		return earlier, problems
	}
	h, err := history.Open(ctx, history.Options{Path: path, ReadOnly: readOnly, Now: a.now})
	if errors.Is(err, fs.ErrNotExist) && readOnly {
		return earlier, nil
	}
	if err != nil {
		problem(err)
		return earlier, problems
	}
	earlier, err = a.recall(ctx, h, r, node, s)
	problem(err)
	switch {
	case readOnly:
	case r.Literals:
		problems = append(problems, "a reading with literals is not kept")
	default:
		problem(h.Add(ctx, node, r))
	}
	problems = append(problems, h.Notices()...)
	problem(h.Close())
	return earlier, problems
}

// recall reads from the history what a reading is compared with.
func (a *app) recall(ctx context.Context, h *history.History, r *monitor.Reading, node string, s since) (earlier remembered, err error) {
	if earlier.judged, err = a.recallDatabase(ctx, h, history.KeyOf(node, r), r.TakenAt, sinceDefault); err != nil {
		return earlier, err
	}
	earlier.shown = earlier.judged
	if s.ago != sinceDefault {
		if earlier.shown, err = h.Earlier(ctx, history.KeyOf(node, r), s.before(r.TakenAt), r.TakenAt); err != nil {
			return earlier, err
		}
	}
	for _, other := range r.Databases {
		more, err := a.recallDatabase(ctx, h, history.KeyOf(node, other), other.TakenAt, othersSince)
		if err != nil {
			return earlier, err
		}
		earlier.judged = append(earlier.judged, more...)
	}
	return earlier, nil
}

// recallDatabase reads what the findings about one database rest on: what was
// read for some time before, and what tells that an index has long been unused.
func (a *app) recallDatabase(ctx context.Context, h *history.History, key history.Key, now time.Time, ago time.Duration) ([]*monitor.Reading, error) {
	earlier, err := h.Earlier(ctx, key, now.Add(-ago), now)
	if err != nil {
		return nil, err
	}
	old, err := h.Newest(ctx, key, now.Add(-max(ago, a.cfg.Report.Thresholds.UnusedIndexAge)))
	if err != nil || old == nil {
		return earlier, err
	}
	return append(earlier, old), nil
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
