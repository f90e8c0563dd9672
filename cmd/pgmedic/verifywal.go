package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// walVerifiedRow is the WAL of one cluster in the JSON of pgmedic verify.
type walVerifiedRow struct {
	Server           string `json:"server"`
	SystemIdentifier string `json:"system_identifier"`
	Store            string `json:"store"`
	// Deep is true where all of it was opened.
	Deep bool `json:"deep"`
	*archive.Verified
	// Error says why it could not be checked.
	Error string `json:"error,omitempty"`
}

// verifyWAL checks the WAL of the clusters whose base backups are verified, or of all in
// the store.
func (cmd *verifyCommand) verifyWAL(ctx context.Context, c *catalog.Catalog, entries []catalog.Entry) (rows []walVerifiedRow, problem error) {
	archives, err := walToCopy(ctx, c.Store(), entries, cmd.flags.all)
	if err != nil {
		return nil, err
	}
	with, err := cmd.keys.identities()
	if err != nil {
		return nil, err
	}
	trusted, err := trustedSigners(cmd.cfg)
	if err != nil {
		return nil, err
	}
	for _, named := range archives {
		system := strconv.FormatUint(named.archive.System(), 10)
		o := archive.VerifyOptions{Deep: cmd.flags.deep, Bases: basesOf(entries, named.server, system), Trusted: trusted}
		if cmd.flags.deep || len(with) > 0 {
			o.Open = func(_ context.Context, epoch string, wraps []archive.StoredWrap) (*seal.Key, error) {
				return cmd.keys.openWAL(epoch, wraps)
			}
		}
		row := walVerifiedRow{Server: named.server, SystemIdentifier: system, Store: location(c), Deep: cmd.flags.deep}
		row.Verified, err = named.archive.Verify(ctx, o)
		switch {
		case ctx.Err() != nil:
			return rows, context.Cause(ctx)
		case err != nil:
			row.Error = words.OneLine(err.Error())
			err = fmt.Errorf("verify the WAL of server %s: %w", named.server, err)
		case len(row.Problems) > 0:
			err = pgmedic.Errorf(pgmedic.KindIntegrity, "`pgmedic wal status` shows what can be recovered; take a base backup, and bring back what is missing from another copy of the store",
				"the WAL of server %s is damaged: %s", named.server, row.Problems[0])
		}
		problem = worse(problem, err)
		rows = append(rows, row)
		if !cmd.global.json {
			cmd.printWALVerified(row)
		}
	}
	return rows, problem
}

// basesOf are the base backups of a cluster.
func basesOf(entries []catalog.Entry, server, system string) (all []wal.Base) {
	for _, e := range entries {
		if b, ok := retainedBackup(e); ok && e.Backup.Server.Name == server && e.Backup.Server.SystemIdentifier == system {
			all = append(all, b.Base)
		}
	}
	return all
}

func (cmd *verifyCommand) printWALVerified(r walVerifiedRow) {
	if cmd.global.quiet || r.Verified == nil {
		return
	}
	paint := cmd.paint(cmd.stdoutTTY)
	state, what := paint.good("verified"), "presence and sizes; --deep opens it"
	if r.Deep {
		what = fmt.Sprintf("opened %s, %s", words.Plural(r.Opened, "object"), words.Bytes(r.OpenedBytes))
	}
	if r.Unindexed != "" {
		what += "; " + r.Unindexed
	} else {
		what += fmt.Sprintf("; %s as in the index", words.Plural(r.Indexed, "segment"))
	}
	if len(cmd.cfg.Backup.TrustedSigners) > 0 {
		what += fmt.Sprintf("; a trusted signer signed %d of %s, and not what is stored in them", r.Signed, words.Plural(r.Epochs, "epoch"))
	}
	if len(r.Problems) > 0 {
		state = paint.bad("FAILED  ")
	}
	cmd.wrapf("%s  WAL of %s, cluster %s  %s, %s: %s\n", state, words.Clean(r.Server), r.SystemIdentifier, words.Plural(r.Objects, "object"), words.Bytes(r.SizeBytes), words.Clean(what))
	for _, problem := range r.Problems {
		cmd.wrapf("  %s  %s\n", paint.bad("problem"), words.Clean(problem))
	}
	if r.More > 0 {
		cmd.wrapf("  and %s more\n", words.Plural(r.More, "problem"))
	}
}

// nothingToVerify is the error of a store without backups and without WAL.
func nothingToVerify(c *catalog.Catalog) error {
	return pgmedic.Errorf(pgmedic.KindNotFound, "look elsewhere with --store, and see that its disk is mounted; `pgmedic backup` takes one",
		"there is no backup to verify in %s", location(c))
}

// checkDeep refuses --deep where nothing would be opened.
func (f verifyFlags) checkDeep() error {
	if f.deep && f.percent > 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--deep and --sample together")
	}
	return nil
}
