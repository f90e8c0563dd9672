package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/render"
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
		a.printf("%s  %s  %s, %s: %s\n", word(p.Drop, p.Dropped), render.Clean(p.Database), render.Bytes(p.SizeBytes),
			agoSeconds(p.Since, p.AgeSeconds), render.Clean(p.Reason))
	}
	for _, p := range plan.Rescued {
		a.printf("%s  %s.%s  %s, %s: %s\n", word(p.Drop, p.Dropped), render.Clean(p.Database), render.Clean(p.Schema),
			count(p.Tables, "table"), agoSeconds(p.Since, p.AgeSeconds), render.Clean(p.Reason))
	}
	for _, u := range plan.Unread {
		a.printf("%s  %s: not looked into for rescues: %s\n", paint.warn("unknown"), render.Clean(u.Database), words.OneLine(u.Reason))
	}
}

// agoSeconds says how long ago something was, by the server's clock.
func agoSeconds(since time.Time, seconds float64) string {
	return render.Ago(since.Add(time.Duration(seconds*float64(time.Second))), since)
}

// printSeries prints what becomes of backups.
func (a *app) printSeries(plan *pruneResult, keeps bool) {
	paint := a.paint(a.stdoutTTY)
	for _, s := range plan.Stores {
		if s.Error != "" {
			a.printf("%s  %s: %s\n", paint.warn("unread "), render.Clean(s.Name), render.Clean(s.Error))
		}
	}
	for _, s := range plan.Series {
		a.printf("%s  %s\n", paint.bold(render.Clean(seriesName(s)+", in "+s.Store)), seriesSums(s))
		if s.Stopped != "" {
			a.printf("  %s %s\n", paint.bad("nothing is deleted:"), render.Clean(s.Stopped))
		}
		for _, d := range s.Decisions {
			if d.Verdict == retention.Keep && !d.Unmark && (!keeps || s.Stopped != "") {
				continue
			}
			a.printf("  %s  %s  %s  %s\n", a.verdict(d.Verdict, d.Unmark, d.Done), render.Clean(d.ID), paint.dim(fmt.Sprintf("%-8s", render.Clean(string(d.Proof)))),
				render.Clean(a.decisionWords(d)))
		}
	}
	for _, o := range plan.Orphans {
		if o.Verdict == retention.Keep && !keeps {
			continue
		}
		a.printf("  %s  %s, in %s: no manifest, %s in %s: %s\n", a.verdict(o.Verdict, false, o.Done), render.Clean(o.Folder), render.Clean(o.Store),
			render.Bytes(o.SizeBytes), count(o.Objects, "object"), render.Clean(o.Reason))
	}
	if plan.FreedBytes+plan.MarkedBytes > 0 {
		word := "would free"
		if !keeps {
			word = "freed"
		}
		a.printf("%s %s now, and %s when the marks are old enough\n", word, render.Bytes(plan.FreedBytes), render.Bytes(plan.MarkedBytes))
	}
	if len(plan.Databases)+len(plan.Rescued)+len(plan.Series)+len(plan.Orphans)+len(plan.Unread) == 0 {
		a.printf("there is nothing to prune: no backups, no database that was set aside, and nothing that a restore or a rescue left\n")
	}
}

// seriesSums says how many backups of a series have which verdict.
func seriesSums(s retention.Series) string {
	var words []string
	for _, v := range []struct {
		verdict retention.Verdict
		word    string
		size    bool
	}{{retention.Keep, "keeps", false}, {retention.Mark, "marks", true}, {retention.Wait, "waits for", true}, {retention.Delete, "deletes", true}} {
		n, size := s.Count(v.verdict)
		switch {
		case n > 0 && v.size:
			words = append(words, fmt.Sprintf("%s %d (%s)", v.word, n, render.Bytes(size)))
		case n > 0:
			words = append(words, fmt.Sprintf("%s %d", v.word, n))
		}
	}
	return strings.Join(words, ", ")
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
	word = fmt.Sprintf("%-8s", render.Clean(word))
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
	words := d.Why()
	if d.Verdict != retention.Keep {
		words = render.Bytes(d.Bytes) + "; " + words
	}
	if d.Verdict == retention.Wait || d.Verdict == retention.Delete {
		words += "; marked " + render.Ago(a.now(), d.MarkedAt)
	}
	if d.Verdict == retention.Wait {
		words += ", may go at " + d.DeleteAfter.UTC().Format("2006-01-02 15:04Z")
	}
	return words
}

// printPruned prints the names of what was dropped and deleted.
func (a *app) printPruned(done *pruneResult) {
	for _, p := range done.Databases {
		if p.Dropped {
			a.printf("%s\n", render.Clean(p.Database))
		}
	}
	for _, p := range done.Rescued {
		if p.Dropped {
			a.printf("%s.%s\n", render.Clean(p.Database), render.Clean(p.Schema))
		}
	}
	for _, s := range done.Series {
		for _, d := range s.Decisions {
			if d.Verdict == retention.Delete && d.Done {
				a.printf("%s\n", render.Clean(d.ID))
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
