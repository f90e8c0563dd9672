package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// walStatusCommand says how far the stored WAL goes.
type walStatusCommand struct {
	job
	servers servers
	stores  stores
	keys    keyring

	check bool
}

// walStatus is what is known of the WAL of one cluster.
type walStatus struct {
	Server           string `json:"server"`
	SystemIdentifier string `json:"system_identifier"`
	Store            string `json:"store"`
	wal.Condition
	// LimitSeconds is how old an observation may be that still says how far the server is.
	LimitSeconds float64    `json:"limit_seconds"`
	Spans        []wal.Span `json:"spans"`
	// Missing is WAL that is not stored between WAL that is, and Lost what was recorded
	// to be gone for good.
	Missing []wal.Gap `json:"missing"`
	Lost    []wal.Gap `json:"lost"`
	// Split are segments that are stored with different content.
	Split []string `json:"split"`
	// Branches is WAL of timelines that failovers left, behind where they did.
	Branches []walBranch `json:"branches"`
	// Windows are the moments to which the cluster can be recovered from base backups of the
	// store. BaseBackups are those of which the WAL says that they were taken, and Unlisted
	// the moments to which those of them recover that are not in the store, wherever they are.
	Windows     []wal.Window `json:"windows"`
	BaseBackups []wal.Base   `json:"base_backups"`
	Unlisted    []wal.Window `json:"unlisted_windows"`
	// Proven are the newest moments that drills have proven, by timeline. ClaimedDrills counts
	// those of which this host can't tell who wrote the receipts.
	Proven        []pitr.Proof `json:"proven"`
	ClaimedDrills int          `json:"claimed_drills"`
	// CommitTimes is true where this host could read the times of commits from the index:
	// else times are of observations of the server alone.
	CommitTimes bool     `json:"commit_times"`
	Problems    []string `json:"problems"`
	Objects     int      `json:"objects"`
	SizeBytes   int64    `json:"size_bytes"`
}

func walStatusCLI(e *env) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far the stored WAL goes, and what is missing of it",
		Long: `Lists the WAL in the store and shows how far it goes without a gap. It needs no key and
does not ask the server: what counts is what is stored. On a host that has a key, it also
counts the transactions that a failover lost, for which it reads up to 1 GiB of WAL.

  ok       all WAL is stored up to a moment ago
  behind   the server has written more than is stored, for longer than allowed
  unknown  nothing was stored lately that says how far the server is
  broken   WAL is missing or lost, and no base backup is known to have been taken after it;
           or two servers wrote different WAL or histories under one name
  none     nothing is stored

pgmedic wal stream stores each minute how far the server is, also while that writes
nothing: no news is unknown.

"recoverable" lines say to which moments the server can be recovered from base backups in
the store, and below them is the newest moment that a drill has proven (pgmedic drill
--at). "perhaps" is about base backups of which only the WAL says that they were taken,
on the server itself: whether they are still there is not checked. On a host with a key
times are exact, from the index of the WAL; elsewhere they are those of observations.`,
		Example: `  pgmedic wal status
  pgmedic wal status --check --quiet`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &walStatusCommand{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}, check: check}
			return command.run(cmd.Context())
		},
	}
	addConnection(cmd)
	addStore(cmd)
	cmd.Flags().BoolVar(&check, "check", false, "end with 1 unless the state is ok")
	return cmd
}

func (cmd *walStatusCommand) run(ctx context.Context) error {
	server, err := cmd.servers.serverName(ctx)
	if err != nil {
		return err
	}
	c, closed, err := cmd.stores.openPlace(ctx, cmd.cfg.Backup.Place(), cmd.cfg.Backup.Access, true)
	if err != nil {
		return err
	}
	defer closed()
	all, err := cmd.keys.clusters(ctx, c, server, 0)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errNoWAL(server, c.Store())
	}
	clusters := make([]walStatus, 0, len(all))
	for i := range all {
		s, err := cmd.status(ctx, c, &all[i])
		if err != nil {
			return err
		}
		clusters = append(clusters, s)
	}
	if cmd.global.json {
		err = cmd.printJSON(map[string]any{"clusters": clusters})
	} else {
		for _, s := range clusters {
			cmd.print(s)
		}
	}
	if err != nil || !cmd.check {
		return err
	}
	for _, s := range clusters {
		if s.State != wal.StateOK {
			return pgmedic.Errorf(pgmedic.KindFailed, "see `pgmedic wal status`", "the WAL of server %s is %s: %s", s.Server, s.State, s.Why)
		}
	}
	return nil
}

// status is what is known of one cluster.
func (cmd *walStatusCommand) status(ctx context.Context, c *catalog.Catalog, of *pitr.Cluster) (walStatus, error) {
	survey := of.Survey
	s := walStatus{
		Server: of.Server, SystemIdentifier: strconv.FormatUint(of.SystemIdentifier, 10), Store: location(c),
		Condition: of.Condition, LimitSeconds: survey.Limit().Seconds(),
		Spans: orEmpty(survey.Spans), Missing: orEmpty(survey.Stored.Gaps()), Lost: orEmpty(survey.Gaps), Split: orEmpty(survey.Split),
		BaseBackups: orEmpty(survey.Bases), Windows: orEmpty(of.Windows), Unlisted: orEmpty(of.Elsewhere), Problems: orEmpty(of.Problems),
		CommitTimes: of.CommitTimes, Objects: survey.Objects, SizeBytes: survey.SizeBytes,
		Proven: []pitr.Proof{}, ClaimedDrills: of.ClaimedDrills,
	}
	for i, w := range of.Windows {
		if i > 0 && of.Windows[i-1].Timeline == w.Timeline {
			continue
		}
		if proof, ok := of.Proven(w.Timeline, ""); ok {
			s.Proven = append(s.Proven, proof)
		}
	}
	var err error
	s.Branches, err = cmd.branches(ctx, archive.New(c.Store(), of.Server, of.SystemIdentifier), survey)
	return s, err
}

func (cmd *walStatusCommand) print(s walStatus) {
	if cmd.global.quiet {
		cmd.wrapf("%s\n", s.State)
		return
	}
	p := cmd.paint(cmd.stdoutTTY)
	cmd.wrapf("WAL of server %s, cluster %s, in %s\n", words.Clean(s.Server), s.SystemIdentifier, words.Clean(s.Store))
	cmd.wrapf("  %s  %s\n", p.state(s.State), words.Clean(s.Why))
	seen, lag := "never", ""
	if s.Seen != nil {
		seen = fmt.Sprintf("%s, with its WAL at %v of timeline %d", words.Ago(cmd.now(), s.Seen.At), s.Seen.LSN, s.Seen.Timeline)
		lag = words.Bytes(int64(min(s.LagBytes, 1<<62)))
	}
	until := ""
	if s.State != wal.StateNone {
		until = s.Until.LSN.String()
	}
	if !s.Until.Time.IsZero() {
		until += ", all of " + s.Until.Time.UTC().Format("2006-01-02 15:04:05Z") + " by the server's clock at least"
	}
	cmd.fields("stored until", until, "server seen", seen, "not stored yet", lag,
		"objects", fmt.Sprintf("%s, %s", words.Count(int64(s.Objects)), words.Bytes(s.SizeBytes)))
	for _, span := range s.Spans {
		cmd.wrapf("  timeline %d  %v to %v\n", span.Timeline, span.From, span.To)
	}
	for _, g := range s.Missing {
		cmd.wrapf("  %s  timeline %d, %v to %v\n", p.bad("missing"), g.Timeline, g.From, g.To)
	}
	for _, g := range s.Lost {
		cmd.wrapf("  %s  timeline %d, %v to %v: %s\n", p.bad("lost"), g.Timeline, g.From, g.To, words.Clean(g.Why))
	}
	for _, name := range s.Split {
		cmd.wrapf("  %s  segment %s is stored with different content: two servers wrote on one timeline\n", p.bad("split"), name)
	}
	for _, b := range s.Branches {
		cmd.printBranch(b)
	}
	for _, problem := range s.Problems {
		cmd.wrapf("  %s  %s\n", p.warn("problem"), words.Clean(problem))
	}
	cmd.printWindows(s)
}

func (cmd *walStatusCommand) printWindows(s walStatus) {
	p := cmd.paint(cmd.stdoutTTY)
	for i, w := range s.Windows {
		text := fmt.Sprintf("on timeline %d to any moment from %v to %v, from %s", w.Timeline, w.From, w.Until, words.Plural(len(w.Bases), "base backup"))
		cmd.wrapf("  %s  %s\n", p.good("recoverable"), cmd.fit(text, len("  recoverable  ")))
		if i+1 < len(s.Windows) && s.Windows[i+1].Timeline == w.Timeline {
			continue
		}
		var proof *pitr.Proof
		if at := slices.IndexFunc(s.Proven, func(one pitr.Proof) bool { return one.Timeline == w.Timeline }); at >= 0 {
			proof = &s.Proven[at]
		}
		cmd.wrapf("  %s  %s\n", strings.Repeat(" ", len("recoverable")), cmd.fit(p.proven(proof, s.ClaimedDrills, cmd.now()), len("  recoverable  ")))
	}
	for _, w := range s.Unlisted {
		b := w.Bases[len(w.Bases)-1]
		text := fmt.Sprintf("on timeline %d from %v to %v, if the base backup is kept that was taken from %v to %v: it is not in this store", w.Timeline, w.From, w.Until, b.Start, b.Stop)
		cmd.wrapf("  %s  %s\n", p.warn("perhaps"), cmd.fit(text, len("  perhaps  ")))
	}
	if len(s.Windows) == 0 && len(s.Unlisted) == 0 {
		cmd.wrapf("  no base backup of this server is known, and a recovery begins with one: docs/point-in-time.md\n")
	}
	if !s.CommitTimes {
		const text = "times are of observations, once a minute: the times of commits are in the index of the WAL, which this host has no key for, or which is not there yet"
		cmd.wrapf("  %s\n", p.dim(cmd.fit(text, 2)))
	}
}
