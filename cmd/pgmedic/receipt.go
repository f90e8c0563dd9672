package main

import (
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// worse keeps an error that says more than that a receipt was not stored.
func worse(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// failedReceipts makes failed receipts the error of the run.
func failedReceipts(receipts []*pgmedic.Receipt, other error) error {
	for _, r := range receipts {
		if check, failed := r.Failed(); failed {
			hint := check.Hint
			switch {
			case hint != "":
			case r.Kind == pgmedic.ReceiptDrill: // bytes that are damaged have a hint of their own
				hint = "do not count on this backup before you know why: a new one may have the same; `pgmedic restore --into` gives what there is, to look at"
			default:
				hint = "do not count on this backup: take a new one, and look at the store"
			}
			return pgmedic.Errorf(pgmedic.KindIntegrity, hint, "backup %s: %s: %s", r.BackupID, check.Name, check.Detail)
		}
	}
	return other
}

// printReceipt prints what was proven, and each check.
func (e *env) printReceipt(r *pgmedic.Receipt, b *pgmedic.Backup) {
	p := e.paint(e.stdoutTTY)
	if e.global.quiet {
		e.wrapf("%s\n", r.BackupID)
		return
	}
	line := p.proof(r.Proof) + ": backup " + r.BackupID + " of " + words.Clean(databaseOrAll(b))
	if r.Sample != nil && r.Outcome == pgmedic.OutcomeOK {
		line = "sampled: backup " + r.BackupID + " of " + words.Clean(databaseOrAll(b)) + ", " + sampleWords(r)
	}
	if r.RecoverySeconds > 0 {
		line += " recovers in " + p.bold(secondsWords(r.RecoverySeconds))
	}
	e.wrapf("%s\n", line)
	e.printChecks(r.Checks)
	e.printMissing(slices.DeleteFunc(slices.Clone(r.Checks), func(c pgmedic.Check) bool { return len(c.Items) == 0 }))
}
