package main

import (
	"context"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walstream"
	"github.com/pgmedic/pgmedic/internal/words"
)

// maxCounted is how much of a branch is read for its commits: 1 GiB takes some seconds.
const maxCounted = 1 << 30

// walBranch is WAL that a failover left behind, and the transactions in it.
type walBranch struct {
	wal.Branch
	// Lost are the transactions that committed in it, up to CountedTo; nil where they
	// could not be counted, and NotCounted says why.
	Lost       *wal.Commits `json:"lost_transactions,omitempty"`
	CountedTo  wal.LSN      `json:"counted_to,omitempty"`
	NotCounted string       `json:"not_counted,omitempty"`
}

// branches counts what failovers lost. Only that reads WAL, and takes a key; where nothing
// shows it, it is not done.
func (cmd *walStatusCommand) branches(ctx context.Context, a *archive.Archive, survey *archive.Survey) ([]walBranch, error) {
	all := []walBranch{}
	if cmd.global.quiet && !cmd.global.json {
		return all, nil
	}
	var f *archive.Fetcher
	for _, b := range survey.Branches() {
		if f == nil {
			var err error
			if f, err = a.NewFetcher(ctx, func(_ context.Context, epoch string, wraps []archive.StoredWrap) (*seal.Key, error) {
				return cmd.keys.openWAL(epoch, wraps)
			}); err != nil {
				return nil, err
			}
		}
		one := walBranch{Branch: b}
		if lost, to, err := f.Commits(ctx, b, maxCounted); err != nil {
			one.NotCounted = words.OneLine(err.Error())
		} else {
			one.Lost, one.CountedTo = &lost, to
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		all = append(all, one)
	}
	return all, nil
}

// printBranch says what a failover lost.
func (cmd *walStatusCommand) printBranch(b walBranch) {
	p := cmd.paint(cmd.stdoutTTY)
	if b.Lost == nil {
		cmd.wrapf("  %s  %s: %s\n", p.warn("branch"), words.Clean(walstream.DescribeBranch(b.Branch, wal.Commits{}, false)), words.Clean(b.NotCounted))
		return
	}
	more := ""
	if b.CountedTo < b.To {
		more = "; only the first " + words.Bytes(int64(b.CountedTo-b.From)) + " of " + words.Bytes(int64(b.To-b.From)) + " were read"
	}
	mark := p.warn
	if b.Lost.Count == 0 && more == "" {
		mark = p.good
	}
	cmd.wrapf("  %s  %s%s\n", mark("branch"), words.Clean(walstream.DescribeBranch(b.Branch, *b.Lost, true)), more)
}
