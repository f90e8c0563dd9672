package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/physical/merge"
)

// incremental are the flags of incremental backups.
type incremental struct {
	asked    bool
	maxChain int
}

// defaultMaxChain is how many backups a restore needs at most: a full one and six days of
// incremental ones.
const defaultMaxChain = 7

func (f *incremental) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.asked, "incremental", false, "physical: only what was changed since the newest physical backup; a full one where that is not possible (PostgreSQL 17 or newer, or --reader sql)")
	cmd.Flags().IntVar(&f.maxChain, "max-chain", defaultMaxChain, "with --incremental: most backups that a restore may need; a full one is taken then")
}

func (f *incremental) check(cmd *cobra.Command) error {
	switch {
	case cmd.Flags().Changed("max-chain") && !f.asked:
		return pgmedic.Errorf(pgmedic.KindUsage, "add --incremental, or leave it out", "--max-chain is for incremental backups only")
	case f.asked && (f.maxChain < 2 || f.maxChain > pgmedic.MaxDepth):
		return pgmedic.Errorf(pgmedic.KindUsage, fmt.Sprintf("use a number from 2 to %d", pgmedic.MaxDepth), "--max-chain %d is not a length of a chain", f.maxChain)
	}
	return nil
}

// incremental says how the backup is to be incremental, or nil. What is kept for the next one is
// committed by the caller.
func (cmd *backupCommand) incremental(c *catalog.Catalog) (*physical.Incremental, *keptManifests) {
	if !cmd.flags.physical.asked {
		return nil, nil
	}
	kept, err := cmd.keptManifests(cmd.cfg.Server)
	if err != nil {
		cmd.log.Warn("the server's manifest is not kept on this host, which needs a key for the next incremental backup", "error", err)
	}
	o := &physical.Incremental{MaxChain: cmd.flags.physical.maxChain, Manifest: func(ctx context.Context, b *pgmedic.Backup) (io.ReadCloser, error) {
		return cmd.manifestOf(ctx, c, kept, b)
	}, Reading: func(ctx context.Context, needed []*pgmedic.Backup) func() { return cmd.leaseChain(ctx, c, needed) }}
	if kept != nil {
		o.Keep = kept
	}
	return o, kept
}

// keepManifest keeps the server's manifest of a backup that was taken, or forgets that of one that
// was not, whose id is empty.
func (cmd *backupCommand) keepManifest(kept *keptManifests, id string) {
	if kept == nil {
		return
	}
	err := kept.drop
	if id != "" {
		err = func() error { return kept.commit(id) }
	}
	if err := err(); err != nil {
		cmd.log.Warn("the server's manifest is not kept on this host, which needs a key for the next incremental backup", "error", err)
	}
}

// physicalSource opens a physical backup, which is authenticated where it is encrypted.
func (kr keyring) physicalSource(ctx context.Context, c *catalog.Catalog, e catalog.Entry) (s physical.Source, err error) {
	s.Store = c.Store()
	if s.Backup, err = c.Whole(ctx, e); err == nil {
		s.Key, err = kr.readKey(ctx, c, s.Backup)
	}
	return s, err
}

// chain opens a backup and those that it needs, and returns them as one.
func (kr keyring) chain(ctx context.Context, c *catalog.Catalog, newest physical.Source) (physical.Source, io.Closer, error) {
	if newest.Backup.Physical == nil || newest.Backup.Physical.Kind != pgmedic.PhysicalIncremental {
		return newest, io.NopCloser(nil), nil
	}
	listing, err := c.List(ctx, kr.trusting(catalog.Filter{Server: newest.Backup.Server.Name, Cluster: true}))
	if err != nil {
		return newest, nil, err
	}
	needed, err := chain.Of(newest.Backup, backupsOf(listing.Entries))
	if err != nil {
		return newest, nil, err
	}
	members := []physical.Source{newest}
	for _, b := range needed[1:] {
		s, err := kr.physicalSource(ctx, c, catalog.Entry{Backup: b})
		if err != nil {
			return newest, nil, fmt.Errorf("open backup %s, which %s needs: %w", b.ID, newest.Backup.ID, err)
		}
		members = append(members, s)
	}
	return merge.Chain(ctx, "", members)
}

func backupsOf(entries []catalog.Entry) []*pgmedic.Backup {
	all := make([]*pgmedic.Backup, len(entries))
	for i, e := range entries {
		all[i] = e.Backup
	}
	return all
}

// wholeChains returns those of physical backups that have all that they need among them.
func wholeChains(entries []catalog.Entry) []catalog.Entry {
	whole := chain.Whole(backupsOf(entries))
	return slices.DeleteFunc(slices.Clone(entries), func(e catalog.Entry) bool { return !slices.Contains(whole, e.Backup) })
}

// kindWords say whether a physical backup is whole, and what it needs else.
func kindWords(b *pgmedic.Backup) string {
	switch p := b.Physical; {
	case p == nil:
		return ""
	case p.Kind == pgmedic.PhysicalIncremental:
		return fmt.Sprintf("incremental, number %d of a chain; needs backup %s", p.Depth+1, p.Parent) + readerWords(p)
	default:
		return "full" + readerWords(p)
	}
}

func readerWords(p *pgmedic.Physical) string {
	if p.SQL == nil {
		return ""
	}
	return "; files read by SQL"
}
