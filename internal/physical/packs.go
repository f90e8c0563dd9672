package physical

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// packBytes is where a worker begins a new pack: few objects, and none too large for a
// store.
const packBytes = 256 << 20

// packNames gives packs their names.
type packNames struct {
	mu sync.Mutex
	n  int
}

func (p *packNames) next() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	return fmt.Sprintf("pack-%04d", p.n)
}

// work seals chunks into packs until there are no more.
func (f *files) work() error {
	for {
		t, more := f.take()
		if !more {
			return f.stopped()
		}
		if err := f.pack(t); err != nil {
			return err
		}
	}
}

// take waits for the next chunk.
func (f *files) take() (*task, bool) {
	select {
	case t, more := <-f.tasks:
		return t, more
	case <-f.ctx.Done():
		return nil, false
	}
}

func (f *files) stopped() error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	return nil
}

// pack stores one pack: the given chunk and those that follow, until it is full.
func (f *files) pack(first *task) error {
	name, plain := f.packs.next(), int64(0)
	var out packWriter
	err := f.r.put(f.ctx, name, func(ctx context.Context, w io.Writer) error {
		out = packWriter{dst: w, hash: sha256.New()}
		sealer, err := seal.NewWriter(io.Discard, f.r.seal) // each chunk begins its own stream
		if err != nil {
			return err
		}
		for t, more := first, true; more; t, more = f.take() {
			if err := f.seal(t, name, sealer, &out); err != nil {
				return fmt.Errorf("seal a chunk of %s: %w", name, err)
			}
			plain += t.chunk.PlainBytes
			failpoint.Hit(ctx, "physical-chunk")
			if out.n >= packBytes {
				break
			}
		}
		return f.stopped()
	})
	if err != nil {
		return err
	}
	f.r.record(pgmedic.Object{Name: name, Role: pgmedic.RolePack, StoredBytes: out.n, SHA256: hex.EncodeToString(out.hash.Sum(nil)), PlainBytes: plain})
	return nil
}

// seal checks the pages of a chunk, and writes it to a pack.
func (f *files) seal(t *task, pack string, sealer *seal.Writer, out *packWriter) error {
	for _, p := range t.pages {
		if err := f.pages.check(f.ctx, p, t.plain[p.from:p.to]); err != nil {
			return err
		}
	}
	hash := sha256.Sum256(t.plain)
	t.chunk = Chunk{ID: t.id, Pack: pack, Offset: out.n, PlainBytes: int64(len(t.plain)), PlainSHA256: hex.EncodeToString(hash[:])}
	if err := sealer.Reset(out); err != nil {
		return err
	}
	if _, err := sealer.Write(t.plain); err != nil {
		return err
	}
	if err := sealer.Close(); err != nil {
		return err
	}
	sum, err := sealer.Sum()
	if err != nil {
		return err
	}
	t.chunk.StoredBytes, t.chunk.SHA256 = sum.StoredBytes, sum.SHA256
	f.free <- t.buffer // which has room for all
	t.buffer, t.plain = nil, nil
	close(t.sealed)
	return nil
}

// packWriter counts and hashes the bytes of a pack.
type packWriter struct {
	dst  io.Writer
	hash hash.Hash
	n    int64
}

func (p *packWriter) Write(b []byte) (int, error) {
	n, err := p.dst.Write(b)
	p.hash.Write(b[:n])
	p.n += int64(n)
	return n, err
}

// pages is what was found out about the pages of relations.
type pages struct {
	options pgdata.PageOptions
	// again reads a page once more; nil where the role may not.
	again *sqlSession

	mu           sync.Mutex
	checked, bad int64
	first        []pgmedic.PageError
}

// unused counts pages that are all zero.
func (p *pages) unused(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked += n
}

// check checks the pages of a range. One that is wrong is read again where the role may: the
// server may have been writing it when it was copied, and WAL then has it whole.
func (p *pages) check(ctx context.Context, r pageRange, b []byte) error {
	size := p.options.BlockBytes
	var wrong []pgmedic.PageError
	for i := 0; i*size < len(b); i++ {
		number := uint32(i)
		if r.blocks != nil {
			number = r.blocks[i]
		}
		block := r.first + number
		fault := pgdata.CheckPage(b[i*size:(i+1)*size], block, p.options)
		if fault == pgdata.PageRight {
			continue
		}
		e := pgmedic.PageError{Path: r.path, Block: r.firstOfAll + int64(number), Why: pgmedic.PageFaultChecksum}
		if fault == pgdata.PageHeader {
			e.Why = pgmedic.PageFaultHeader
		}
		torn, err := p.torn(ctx, r.path, e.Block, block)
		if err != nil {
			return err
		}
		if !torn {
			wrong = append(wrong, e)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked += int64(len(b) / size)
	p.bad += int64(len(wrong))
	p.first = append(p.first, wrong[:min(len(wrong), pgmedic.MaxPageErrors-len(p.first))]...)
	return nil
}

// torn reports whether a page is right when it is read again.
func (p *pages) torn(ctx context.Context, path string, inFile int64, block uint32) (bool, error) {
	page, err := p.again.readPage(ctx, path, inFile, p.options.BlockBytes)
	if err != nil || page == nil {
		return false, err
	}
	return pgdata.CheckPage(page, block, p.options) == pgdata.PageRight, nil
}
