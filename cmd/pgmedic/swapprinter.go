package main

import (
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// swapPrinter prints what a swap or a rollback will do, and what it did.
type swapPrinter struct{ *env }

// printClosed says so where no user will be able to connect.
func (s swapPrinter) printClosed(p swap.Plan) {
	if p.Closed {
		s.before("connections", "the database takes none, as before: ALTER DATABASE … ALLOW_CONNECTIONS true opens it")
	}
}

// printOutside names what the swap does not carry over, and what acts by itself.
func (s swapPrinter) printOutside(p swap.Plan) {
	for _, name := range p.Standbys {
		s.before("standby", words.Clean(name)+": its sessions are ended, too, or by you")
	}
	for _, o := range p.Outside {
		s.before(o.Kind, words.Clean(o.Name)+": "+o.Note)
	}
}

// printSwapped prints what a swap or a rollback did.
func (s swapPrinter) printSwapped(done *swap.Swapped, what string) error {
	if s.global.json {
		return s.printJSON(done)
	}
	if s.global.quiet {
		if done.Kept != "" {
			s.printf("%s\n", done.Kept)
		}
		return nil
	}
	p := s.paint(s.stdoutTTY)
	swapped := p.good("swapped")
	if done.Incomplete {
		swapped = p.bad("swapped, but not completely restored")
	}
	s.wrapf("%s: %s %s in %s\n", swapped, what, words.Clean(done.Database), secondsWords(done.Seconds))
	s.printChecks(done.Checks)
	s.printMissing(done.Checks)
	s.printMadeAfter(done)
	undo := ""
	if done.Kept != "" {
		undo = "pgmedic rollback " + words.Clean(done.Database)
	}
	safety := done.SafetyBackup
	if safety == "" && done.SafetySkipped != "" {
		safety = "skipped: " + words.OneLine(done.SafetySkipped)
	}
	s.fields("globals", globalsWords(done.Globals), "clients waited", secondsWords(done.OutageSeconds), "kept", words.Clean(done.Kept), "safety backup", safety, "undo", undo)
	if done.Closed {
		s.fields("connections", "it takes none, as before: ALTER DATABASE "+words.Clean(sqltext.QuoteIdent(done.Database))+" ALLOW_CONNECTIONS true;")
	}
	for _, e := range done.Standbys {
		if e.Problem == "" {
			s.fields("standby", fmt.Sprintf("%s: sessions ended: %d", words.Clean(e.Standby), e.Ended))
		}
	}
	return nil
}

// printMadeAfter lists what the server took only once the database had its name, and
// how what it did not take is made by hand.
func (s swapPrinter) printMadeAfter(done *swap.Swapped) {
	var objects []string
	for _, m := range done.MadeAfter {
		objects = append(objects, words.Clean(m.Object))
	}
	s.fields("made after the swap", strings.Join(objects, ", "), "to do by hand", words.Clean(strings.Join(done.ByHand, " ")))
}
