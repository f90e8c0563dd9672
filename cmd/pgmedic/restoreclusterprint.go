package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// clusterResult is what a restore of a cluster prints as JSON.
type clusterResult struct {
	Backup string         `json:"backup"`
	Plan   *recovery.Plan `json:"plan"`
	// Preview is of --dry-run, Done of a restore.
	Preview *cluster.Preview `json:"preview,omitempty"`
	Done    *cluster.Done    `json:"done,omitempty"`
	// Started is what --start found.
	Started *cluster.Recovered `json:"started,omitempty"`
	Seconds float64            `json:"seconds"`
}

// printForeseen prints the plan, which --dry-run ends with.
func (cmd *clusterCommand) printForeseen(j *clusterJob, p cluster.Preview) error {
	if cmd.global.json {
		return cmd.printJSON(clusterResult{Backup: j.entry.Backup.ID, Plan: j.plan, Preview: &p})
	}
	if cmd.global.quiet {
		cmd.printf("%s\n", j.entry.Backup.ID)
		return nil
	}
	cmd.printPlan(j, p)
	cmd.wrapf("nothing was changed\n")
	return nil
}

// printPlan prints what a restore will do.
func (cmd *clusterCommand) printPlan(j *clusterJob, p cluster.Preview) {
	plan := j.plan
	cmd.wrapf("cluster of server %s from backup %s, to %s\n", words.Clean(plan.Server), j.entry.Backup.ID, words.Clean(plan.Target))
	runs := ""
	if j.runs != nil {
		runs = words.Clean(j.runs.Username) + ", who must be able to read the configuration, the keys and the store"
	}
	folder := words.Clean(p.Dir)
	switch p.State {
	case cluster.Existing:
		folder += ", which has a cluster"
	case cluster.Unfinished:
		folder += ", which has an unfinished restore"
	case cluster.Absent, cluster.Empty:
	}
	next := ""
	if plan.WAL.Next != nil {
		next = endedWords(plan.WAL.Next)
	}
	files := ""
	if p.Files > 0 { // else the folder was refused before they were looked at
		files = fmt.Sprintf("%s, %s; needs %s, and %s are free", words.Count(p.Files), words.Bytes(p.Bytes), words.Bytes(p.NeededBytes), words.Bytes(p.FreeBytes))
	}
	deletes := ""
	if p.Deletions > 0 {
		deletes = words.Count(p.Deletions) + " of what is there, which the backup does not have"
	}
	conf := p.Configuration
	listens := ""
	if conf.Port != "" {
		listens = words.Clean(fmt.Sprintf("%s, port %s", cmp.Or(conf.ListenAddresses, "no address"), conf.Port))
		if cmd.cluster.startPort > 0 {
			listens += fmt.Sprintf("; --start-port starts it on port %d", cmd.cluster.startPort)
		}
	}
	cmd.fields(
		"recovers to", reachedWords(plan), "left out", next, "timeline", fmt.Sprint(plan.WAL.Timeline),
		"WAL", fmt.Sprintf("%v to %v; commits in it: %s", plan.WAL.Base.Start, plan.WAL.End, words.Count(int64(plan.WAL.Commits))),
		"files", files,
		"folder", folder, "WAL folder", words.Clean(p.WALDir), "owner", runs, "deletes", deletes,
		"listens on", listens, "libraries", words.Clean(strings.Join(conf.Preload, ", ")),
	)
	for _, s := range conf.SetAside {
		cmd.wrapf("  sets aside %s: %s\n", words.Clean(settingWords(s)), s.Why)
	}
	for _, concern := range conf.Concerns {
		cmd.wrapf("  before the start: %s\n", words.Clean(concern))
	}
	for _, t := range plan.Tablespaces {
		cmd.wrapf("  tablespace %s goes to %s\n", words.Clean(t.From), words.Clean(t.To))
	}
	for i, name := range p.Delete {
		if i == 20 {
			cmd.wrapf("  and %s more\n", words.Count(p.Deletions-20))
			break
		}
		cmd.wrapf("  delete %s\n", words.Clean(name))
	}
	cmd.warnPlan(plan)
	if conf.Unread != "" {
		cmd.log.Warn("the settings of the server were not checked", "reason", words.Clean(conf.Unread))
	}
}

// settingWords is a setting as a file of settings has it.
func settingWords(s cluster.SetAside) string {
	if s.Value == "" {
		return s.Name
	}
	return s.Name + " = " + sqltext.QuoteLiteral(s.Value)
}

// printSetAside says how settings that were set aside come back.
func (cmd *clusterCommand) printSetAside(all []cluster.SetAside) {
	for _, s := range all {
		cmd.wrapf("%s is set aside: %s. To bring it back:\n", words.Clean(settingWords(s)), s.Why)
		cmd.printf("  %s\n", words.Clean(s.Undo))
		if s.Restart {
			cmd.printf("  and restart the server\n")
		}
	}
}

// reachedWords says what a recovery will have brought back.
func reachedWords(p *recovery.Plan) string {
	last := "no commit after the backup"
	if p.WAL.Last != nil {
		last = endedWords(p.WAL.Last)
	}
	switch p.WAL.Stop {
	case wal.StopAtLSN:
		return last + "; replay ends with the record at " + p.WAL.LSN.String()
	case wal.StopImmediate:
		return "the end of the backup, " + p.WAL.Base.Stop.String()
	case wal.StopAtEnd:
		return last + "; replay ends at " + p.WAL.End.String()
	}
	return last
}

func endedWords(e *wal.Ended) string {
	text := fmt.Sprintf("the %s at %v", e.Kind, e.LSN)
	if !e.Time.IsZero() {
		text += " of " + e.Time.UTC().Format("2006-01-02 15:04:05.999999Z")
	}
	return text
}

// printDone prints what was done, and what is left to do.
func (cmd *clusterCommand) printDone(j *clusterJob, r clusterResult) error {
	if cmd.global.json {
		return cmd.printJSON(r)
	}
	if cmd.global.quiet {
		cmd.printf("%s\n", r.Done.Dir)
		return nil
	}
	kept := ""
	if r.Done.KeptBytes > 0 {
		kept = ", " + words.Bytes(r.Done.KeptBytes) + " were there"
	}
	cmd.wrapf("%s backup %s into %s in %s, %s read%s\n", cmd.paint(cmd.stdoutTTY).good("restored"), r.Backup, words.Clean(r.Done.Dir), secondsWords(r.Seconds), words.Bytes(r.Done.FetchedBytes), kept)
	if !r.Done.Configured {
		cmd.log.Warn("the backup has no postgresql.conf, pg_hba.conf and pg_ident.conf, because the server had them outside of the data folder: put yours there before you start it")
	}
	cmd.printSetAside(r.Done.Configuration.SetAside)
	switch {
	case r.Started != nil && r.Started.Running:
		cmd.wrapf("recovered to %v, as planned, and started as process %d\n", r.Started.Redone, r.Started.PID)
	case r.Started != nil:
		cmd.wrapf("recovered to %v\n", r.Started.Redone)
	default:
		as := ""
		if j.runs != nil {
			as = " as user " + words.Clean(j.runs.Username)
		}
		cmd.wrapf("start PostgreSQL %d on it%s: it recovers, and opens when it is done. Its log says \"redo done at\" %s\n", j.plan.Major, as, redoneWords(j.plan))
	}
	return nil
}

// redoneWords is what PostgreSQL will say.
func redoneWords(p *recovery.Plan) string {
	if p.WAL.Stop == wal.StopAtLSN {
		return p.WAL.LSN.String()
	}
	return "the last record before " + p.WAL.End.String()
}
