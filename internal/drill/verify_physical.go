package drill

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/words"
)

// physicalChunks reads the list of a physical backup's files, and returns the chunks of each
// pack. Damage is a failed check.
func (o VerifyOptions) physicalChunks(ctx context.Context) (map[string][]physical.Chunk, []pgmedic.Check, error) {
	check := pgmedic.Check{Name: "list of files", Outcome: pgmedic.OutcomeOK}
	packs := map[string][]physical.Chunk{}
	err := o.eachChunk(ctx, func(c physical.Chunk) { packs[c.Pack] = append(packs[c.Pack], c) })
	switch {
	case err != nil && pgmedic.KindOf(err) == pgmedic.KindIntegrity:
		check.Outcome, check.Detail = pgmedic.OutcomeFailed, err.Error()
	case err != nil:
		return nil, nil, err
	default:
		check.Detail = words.Plural(o.Backup.Physical.Files, "file") + ", each within its chunks"
	}
	return packs, []pgmedic.Check{check, pagesCheck(o.Backup.Physical)}, nil
}

// eachChunk calls f for each chunk of a list that is read to its end.
func (o VerifyOptions) eachChunk(ctx context.Context, f func(physical.Chunk)) (err error) {
	list, opened, err := o.physical().Files(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	for {
		entry, err := list.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case entry.Chunk != nil:
			f(*entry.Chunk)
		}
	}
}

// pagesCheck says what was found out about the pages when the backup was taken.
func pagesCheck(p *pgmedic.Physical) pgmedic.Check {
	how := "their checksums"
	if !p.Checksums {
		how = "their headers only, because the cluster has no checksums"
	}
	check := pgmedic.Check{Name: "pages", Outcome: pgmedic.OutcomeOK, Detail: fmt.Sprintf("%s pages were checked when the backup was taken, by %s", pgmedic.Count(p.PagesChecked), how)}
	if p.BadPages > 0 {
		check.Outcome = pgmedic.OutcomeWarn
		check.Detail = fmt.Sprintf("%s of %s pages were wrong on the server when the backup was taken: first block %d of %s", pgmedic.Count(p.BadPages), pgmedic.Count(p.PagesChecked), p.PageErrors[0].Block, p.PageErrors[0].Path)
		check.Hint = "the stored bytes are those of the server; find out what is damaged there, and keep an older backup"
	}
	return check
}

func (o VerifyOptions) physical() physical.Source {
	return physical.Source{Store: o.Catalog.Store(), Backup: o.Backup, Key: o.Key}
}

// verifyPhysicalPack reads a pack once, from front to end: every chunk in it, by both of its
// hashes, and what no chunk points to.
func verifyPhysicalPack(ctx context.Context, o VerifyOptions, object pgmedic.Object, chunks []physical.Chunk, m io.Writer) ([]pgmedic.Check, error) {
	extents := make([]extent, len(chunks)) // in the order of their offsets, as the list is
	for i, c := range chunks {
		extents[i] = extent{c.Offset, c.StoredBytes}
	}
	reader := o.physical().CheckedChunks()
	defer reader.Close()
	err := o.readPack(ctx, object, extents, func(i int, stored io.Reader) error {
		plain, err := reader.Open(stored, chunks[i])
		if err == nil {
			_, err = m.Write(plain)
		}
		return err
	})
	return packCheck(object, words.Plural(len(chunks), "chunk"), err)
}
