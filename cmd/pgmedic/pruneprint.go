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
func (a *app) printPlan(plan *pruneResult, keeps bool) {
	a.printDatabases(plan)
	a.printSeries(plan, keeps)
}

func (a *app) printDatabases(plan *pruneResult) {
	paint := a.paint(a.stdoutTTY)
	word := func(drop, dropped bool) string {
		switch {
		case dropped:
			return paint.good("dropped")
		case drop:
			return paint.warn(fmt.Sprintf("%-7s", "drop"))
		}
		return paint.dim(fmt.Sprintf("%-7s", "keep"))
	}
	for _, p := range plan.Databases {
		a.printf("%s  %s  %s, %s: %s\n", word(p.Drop, p.Dropped), words.Clean(p.Database), words.Bytes(p.SizeBytes),
			agoSeconds(p.Since, p.AgeSeconds), words.Clean(p.Reason))
	}
	for _, p := range plan.Rescued {
		a.printf("%s  %s.%s  %s, %s: %s\n", word(p.Drop, p.Dropped), words.Clean(p.Database), words.Clean(p.Schema),
			count(p.Tables, "table"), agoSeconds(p.Since, p.AgeSeconds), words.Clean(p.Reason))
	}
	for _, u := range plan.Unread {
		a.printf("%s  %s: not looked into for rescues: %s\n", paint.warn("unknown"), words.Clean(u.Database), words.OneLine(u.Reason))
	}
}

// agoSeconds says how long ago something was, by the server's clock.
func agoSeconds(since time.Time, seconds float64) string {
	return words.Ago(since.Add(time.Duration(seconds*float64(time.Second))), since)
}

// printSeries prints what becomes of backups.
func (a *app) printSeries(plan *pruneResult, keeps bool) {
	paint := a.paint(a.stdoutTTY)
	for _, s := range plan.Stores {
		if s.Error != "" {
			a.printf("%s  %s: %s\n", paint.warn("unread "), words.Clean(s.Name), words.Clean(s.Error))
		}
	}
	for _, s := range plan.Series {
		a.printf("%s  %s\n", paint.bold(words.Clean(seriesName(s)+", in "+s.Store)), seriesSums(s))
		if s.Stopped != "" {
			a.printf("  %s %s\n", paint.bad("nothing is deleted:"), words.Clean(s.Stopped))
		}
		for _, d := range s.Decisions {
			if d.Verdict == retention.Keep && !d.Unmark && (!keeps || s.Stopped != "") {
				continue
			}
			a.printf("  %s  %s  %s  %s\n", a.verdict(d.Verdict, d.Unmark, d.Done), words.Clean(d.ID), paint.dim(fmt.Sprintf("%-8s", words.Clean(string(d.Proof)))),
				words.Clean(a.decisionWords(d)))
		}
	}
	for _, o := range plan.Orphans {
		if o.Verdict == retention.Keep && !keeps {
			continue
		}
		a.printf("  %s  %s, in %s: no manifest, %s in %s: %s\n", a.verdict(o.Verdict, false, o.Done), words.Clean(o.Folder), words.Clean(o.Store),
			words.Bytes(o.SizeBytes), count(o.Objects, "object"), words.Clean(o.Reason))
	}
	if plan.FreedBytes+plan.MarkedBytes > 0 {
		word := "would free"
		if !keeps {
			word = "freed"
		}
		a.printf("%s %s now, and %s when the marks are old enough\n", word, words.Bytes(plan.FreedBytes), words.Bytes(plan.MarkedBytes))
	}
}

// nothingToPrune says that there is nothing, of what was looked for; it is empty where
// there is something, or where nothing could be read.
func (p *pruning) nothingToPrune() string {
	d := p.done
	if len(d.Databases)+len(d.Rescued)+len(d.Series)+len(d.Orphans)+len(d.Unread) > 0 {
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
func (a *app) verdict(v retention.Verdict, unmark, done bool) string {
	paint, word := a.paint(a.stdoutTTY), string(v)
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
func (a *app) decisionWords(d retention.Decision) string {
	text := d.Why()
	if d.Verdict != retention.Keep {
		text = words.Bytes(d.Bytes) + "; " + text
	}
	if d.Verdict == retention.Wait || d.Verdict == retention.Delete {
		text += "; marked " + words.Ago(a.now(), d.MarkedAt)
	}
	if d.Verdict == retention.Wait {
		text += ", may go at " + d.DeleteAfter.UTC().Format("2006-01-02 15:04Z")
	}
	return text
}

// printPruned prints the names of what was dropped and deleted.
func (a *app) printPruned(done *pruneResult) {
	for _, p := range done.Databases {
		if p.Dropped {
			a.printf("%s\n", words.Clean(p.Database))
		}
	}
	for _, p := range done.Rescued {
		if p.Dropped {
			a.printf("%s.%s\n", words.Clean(p.Database), words.Clean(p.Schema))
		}
	}
	for _, s := range done.Series {
		for _, d := range s.Decisions {
			if d.Verdict == retention.Delete && d.Done {
				a.printf("%s\n", words.Clean(d.ID))
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
