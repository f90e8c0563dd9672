package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/words"
)

// printPlan prints the plan, with what is kept, if asked, and why.
func (p *pruneCommand) printPlan(plan *pruneResult, keeps bool) {
	p.printDatabases(plan)
	p.printSeries(plan, keeps)
}

func (p *pruneCommand) printDatabases(plan *pruneResult) {
	paint := p.paint(p.stdoutTTY)
	word := func(drop, dropped bool) string {
		switch {
		case dropped:
			return paint.good("dropped")
		case drop:
			return paint.warn(fmt.Sprintf("%-7s", "drop"))
		}
		return paint.dim(fmt.Sprintf("%-7s", "keep"))
	}
	for _, d := range plan.Databases {
		p.wrapf("%s  %s  %s, %s: %s\n", word(d.Drop, d.Dropped), words.Clean(d.Database), words.Bytes(d.SizeBytes),
			agoSeconds(d.Since, d.AgeSeconds), words.Clean(d.Reason))
	}
	for _, s := range plan.Rescued {
		p.wrapf("%s  %s.%s  %s, %s: %s\n", word(s.Drop, s.Dropped), words.Clean(s.Database), words.Clean(s.Schema),
			words.Plural(s.Tables, "table"), agoSeconds(s.Since, s.AgeSeconds), words.Clean(s.Reason))
	}
	for _, u := range plan.Unread {
		p.wrapf("%s  %s: not checked for rescue schemas: %s\n", paint.warn("unknown"), words.Clean(u.Database), words.OneLine(u.Reason))
	}
}

// agoSeconds says how long ago something was, by the server's clock.
func agoSeconds(since time.Time, seconds float64) string {
	return words.Ago(since.Add(time.Duration(seconds*float64(time.Second))), since)
}

// printSeries prints what becomes of backups.
func (p *pruneCommand) printSeries(plan *pruneResult, keeps bool) {
	paint := p.paint(p.stdoutTTY)
	for _, s := range plan.Stores {
		if s.Error != "" {
			p.wrapf("%s  %s: %s\n", paint.warn("unread "), words.Clean(s.Name), words.Clean(s.Error))
		}
	}
	for _, s := range plan.Series {
		p.wrapf("%s  %s\n", paint.bold(words.Clean(seriesName(s)+", in "+s.Store)), seriesSums(s))
		if s.Stopped != "" {
			p.wrapf("  %s %s\n", paint.bad("nothing is deleted:"), words.Clean(s.Stopped))
		}
		for _, d := range s.Decisions {
			if d.Verdict == retention.Keep && !d.Unmark && !d.Lacks() && (!keeps || s.Stopped != "") {
				continue
			}
			p.wrapf("  %s  %s  %s  %s\n", verdict(paint, d.Verdict, d.Unmark, d.Done), words.Clean(d.ID), paint.dim(fmt.Sprintf("%-8s", words.Clean(string(d.Proof)))),
				words.Clean(decisionWords(d, p.now())))
		}
	}
	for _, o := range plan.Orphans {
		if o.Verdict == retention.Keep && !keeps {
			continue
		}
		p.wrapf("  %s  %s, in %s: no manifest, %s in %s: %s\n", verdict(paint, o.Verdict, false, o.Done), words.Clean(o.Folder), words.Clean(o.Store),
			words.Bytes(o.SizeBytes), words.Plural(o.Objects, "object"), words.Clean(o.Reason))
	}
	for _, d := range plan.Damaged {
		if !keeps {
			continue
		}
		text := words.Clean(d.Folder) + ", in " + words.Clean(d.Store) + ": damaged: its manifest can't be used; `pgmedic delete` deletes it"
		if held := heldBy(d.Holds); held != "" {
			text += "; " + held
		}
		p.wrapf("  %s  %s\n", verdict(paint, retention.Keep, false, false), text)
	}
	p.printWAL(plan.WAL, keeps)
	if plan.FreedBytes+plan.MarkedBytes > 0 {
		word := "would free"
		if !keeps {
			word = "freed"
		}
		p.wrapf("%s %s now, and %s when the marks are old enough\n", word, words.Bytes(plan.FreedBytes), words.Bytes(plan.MarkedBytes))
	}
}

// nothingToPrune says that there is nothing, of what was looked for; it is empty where
// there is something, or where nothing could be read.
func (p *pruneCommand) nothingToPrune() string {
	d := p.done
	if len(d.Databases)+len(d.Rescued)+len(d.Series)+len(d.Orphans)+len(d.Unread)+len(d.WAL)+len(d.Damaged) > 0 {
		return ""
	}
	noBackups := p.noBackups || slices.ContainsFunc(d.Stores, func(s prunedStore) bool { return s.Error != "" })
	const backups, databases = "no backups", "no database that was set aside, and nothing that a restore or a rescue left"
	switch {
	case !noBackups && !p.noDatabases:
		return "there is nothing to prune: " + backups + ", " + databases + "\n"
	case !noBackups:
		return "there is nothing to prune: " + backups + "\n"
	case !p.noDatabases:
		return "there is nothing to prune: " + databases + "\n"
	}
	return ""
}

// seriesSums says how many backups of a series have which verdict.
func seriesSums(s retention.Series) string {
	var text []string
	for _, v := range []struct {
		verdict retention.Verdict
		word    string
		size    bool
	}{{retention.Keep, "keeps", false}, {retention.Mark, "marks", true}, {retention.Wait, "waits for", true}, {retention.Delete, "deletes", true}} {
		n, size := s.Count(v.verdict)
		switch {
		case n > 0 && v.size:
			text = append(text, fmt.Sprintf("%s %d (%s)", v.word, n, words.Bytes(size)))
		case n > 0:
			text = append(text, fmt.Sprintf("%s %d", v.word, n))
		}
	}
	return strings.Join(text, ", ")
}

// verdict is the word at the beginning of a line.
func verdict(paint paint, v retention.Verdict, unmark, done bool) string {
	word := string(v)
	switch {
	case unmark && done:
		word = "unmarked"
	case unmark:
		word = "unmark"
	case done:
		word = map[retention.Verdict]string{retention.Mark: "marked", retention.Delete: "deleted"}[v]
	}
	word = fmt.Sprintf("%-8s", words.Clean(word))
	switch {
	case done:
		return paint.good(word)
	case v == retention.Mark, v == retention.Delete, unmark:
		return paint.warn(word)
	}
	return paint.dim(word)
}

// decisionWords says why, and of what is marked since when and until when.
func decisionWords(d retention.Decision, now time.Time) string {
	text := d.Why()
	if d.Verdict != retention.Keep {
		text = words.Bytes(d.Bytes) + "; " + text
	}
	if d.Verdict == retention.Wait || d.Verdict == retention.Delete {
		text += "; marked " + words.Ago(now, d.MarkedAt)
	}
	if d.Verdict == retention.Wait {
		text += ", may go at " + d.DeleteAfter.UTC().Format("2006-01-02 15:04Z")
	}
	until, hold := "to be locked until ", "a legal hold is to be set"
	if d.Locked {
		until, hold = "locked until ", "a legal hold was set"
	}
	if !d.LockUntil.IsZero() {
		text += "; " + until + d.LockUntil.UTC().Format("2006-01-02 15:04Z")
	}
	if d.LockHold {
		text += "; " + hold
	}
	return text
}

// printPruned prints the names of what was dropped and deleted.
func (p *pruneCommand) printPruned(done *pruneResult) {
	for _, d := range done.Databases {
		if d.Dropped {
			p.wrapf("%s\n", words.Clean(d.Database))
		}
	}
	for _, s := range done.Rescued {
		if s.Dropped {
			p.wrapf("%s.%s\n", words.Clean(s.Database), words.Clean(s.Schema))
		}
	}
	for _, s := range done.Series {
		for _, d := range s.Decisions {
			if d.Verdict == retention.Delete && d.Done {
				p.wrapf("%s\n", words.Clean(d.ID))
			}
		}
	}
}

// orEmpty is the result with JSON's [] for what there is none of.
func (p *pruneResult) orEmpty() pruneResult {
	all := *p
	all.Databases, all.Rescued, all.Unread = orEmpty(p.Databases), orEmpty(p.Rescued), orEmpty(p.Unread)
	all.prunedBackups = p.prunedBackups.orEmpty()
	return all
}
