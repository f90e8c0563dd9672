package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/progress"
)

const (
	// runChunks is how many chunks that lie end to end in a pack are read by one request.
	runChunks = 4
	// mergedChunks is how many chunks can be pending of a chain of backups, whose list goes
	// to and fro between them.
	mergedChunks = 64
	// wantedParts bounds how many places in files are remembered before chunks are read.
	wantedParts = 20_000
)

// place is where bytes of a chunk belong: at an offset of a file.
type place struct {
	b        *branch
	name     string
	at       int64 // in the file
	from, to int64 // in the chunk
}

// work is a chunk, and all places of a file or of several that it fills.
type work struct {
	chunk  physical.Chunk
	places []place
}

// writer turns the list of files into work.
type writer struct {
	r      *restore
	chunks map[int64]physical.Chunk
	runs   chan<- []work
	// pending are chunks that more files may have bytes in, by their order.
	pending []*work
	parts   int
	// most is how many chunks are pending at most.
	most int

	fetched, kept atomic.Int64
	meter         *progress.Meter
}

// write makes all files and fills them.
func (r *restore) write(ctx context.Context, done *Done) error {
	runs := make(chan []work)
	w := &writer{
		r: r, chunks: map[int64]physical.Chunk{}, runs: runs, most: runChunks,
		meter: progress.NewMeter(progress.MeterOptions{Step: "restore", TotalBytes: r.preview.Bytes, Report: r.Progress}),
	}
	if len(r.Source.Members()) > 1 {
		w.most = mergedChunks
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(runs)
		if err := r.each(ctx, func(e physical.Entry) error { return w.entry(ctx, e) }); err != nil {
			return err
		}
		return w.dispatch(ctx, len(w.pending))
	})
	for range r.Jobs {
		g.Go(func() error {
			chunks := r.Source.Chunks()
			defer chunks.Close()
			for run := range runs {
				if err := w.run(ctx, chunks, run); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	done.FetchedBytes, done.KeptBytes = w.fetched.Load(), w.kept.Load()
	return err
}

// entry takes account of a line of the list.
func (w *writer) entry(ctx context.Context, e physical.Entry) error {
	if e.Chunk != nil {
		w.chunks[e.Chunk.ID] = *e.Chunk
		return nil
	}
	f := e.File
	if skipped(f.Path) {
		return nil
	}
	b, name := w.r.tree.locate(f.Path)
	if f.Kind == physical.KindFolder {
		return w.folder(b, name, f.Path)
	}
	if f.Path == controlFile {
		name += partSuffix
	}
	if err := w.file(b, name, f); err != nil {
		return fmt.Errorf("make %q: %w", f.Path, err)
	}
	at := int64(0)
	for _, extent := range f.Extents {
		if extent.Chunk != physical.Hole {
			w.want(extent, place{b: b, name: name, at: at, from: extent.Offset, to: extent.Offset + extent.Bytes})
		}
		at += extent.Bytes
	}
	// The newest chunk may have bytes of the next file. An honest list does not go back.
	if len(w.pending) > w.most || w.parts > wantedParts {
		return w.dispatch(ctx, len(w.pending)-1)
	}
	return nil
}

func (w *writer) folder(b *branch, name, listName string) error {
	if err := w.r.tree.mkdirAll(b, name); err != nil {
		return fmt.Errorf("make folder %q: %w", listName, err)
	}
	return nil
}

// file makes a file of the right size, all zeros where it is new.
func (w *writer) file(b *branch, name string, f *physical.File) error {
	t := w.r.tree
	file, err := w.open(b, name)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() != f.SizeBytes {
		err = file.Truncate(f.SizeBytes)
	}
	if err == nil && info.Size() > 0 {
		err = clearHoles(file, f)
	}
	if err == nil && info.Mode().Perm() != fileMode {
		err = file.Chmod(fileMode)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return t.give(b, name)
}

// open opens a file that must not exist yet, or that a delta restore keeps.
func (w *writer) open(b *branch, name string) (*os.File, error) {
	root := b.root
	flags := os.O_CREATE | os.O_EXCL | os.O_RDWR
	file, err := root.OpenFile(name, flags, fileMode)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		if err := w.r.tree.mkdirAll(b, path.Dir(name)); err != nil {
			return nil, err
		}
		file, err = root.OpenFile(name, flags, fileMode)
	}
	if !errors.Is(err, fs.ErrExist) {
		return file, err
	}
	if !w.r.Delta {
		return nil, errTwice(name)
	}
	info, err := root.Lstat(name)
	if err == nil && info.Mode().IsRegular() && linkCount(info) == 1 {
		return root.OpenFile(name, os.O_RDWR, fileMode)
	}
	if err == nil {
		err = root.RemoveAll(name) // a link, or a folder
	}
	if err != nil {
		return nil, err
	}
	return root.OpenFile(name, flags, fileMode)
}

// clearHoles makes the ranges of a file zero that the list has no bytes for.
func clearHoles(file *os.File, f *physical.File) error {
	at := int64(0)
	for _, e := range f.Extents {
		if e.Chunk == physical.Hole {
			if err := clearRange(file, at, e.Bytes); err != nil {
				return err
			}
		}
		at += e.Bytes
	}
	return nil
}

// clearRange writes zeros where there are others.
func clearRange(file *os.File, at, n int64) error {
	const step = 1 << 20
	buffer, zeros := make([]byte, min(n, step)), make([]byte, min(n, step))
	for ; n > 0; at, n = at+int64(len(buffer)), n-int64(len(buffer)) {
		buffer = buffer[:min(n, int64(len(buffer)))]
		if _, err := file.ReadAt(buffer, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bytes.Equal(buffer, zeros[:len(buffer)]) {
			continue
		}
		if _, err := file.WriteAt(zeros[:len(buffer)], at); err != nil {
			return err
		}
	}
	return nil
}

// want notes that a place needs bytes of a chunk.
func (w *writer) want(extent physical.Extent, p place) {
	w.parts++
	for i := len(w.pending) - 1; i >= 0; i-- {
		if w.pending[i].chunk.ID == extent.Chunk {
			w.pending[i].places = append(w.pending[i].places, p)
			return
		}
	}
	w.pending = append(w.pending, &work{w.chunks[extent.Chunk], []place{p}})
}

// dispatch hands over the first n pending chunks, those that lie end to end together.
func (w *writer) dispatch(ctx context.Context, n int) error {
	n = max(n, 0)
	var run []work
	send := func() error {
		if len(run) == 0 {
			return nil
		}
		select {
		case w.runs <- run:
			run = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, next := range w.pending[:n] {
		if k := len(run); k > 0 && (k == runChunks || run[k-1].chunk.Pack != next.chunk.Pack || run[k-1].chunk.Offset+run[k-1].chunk.StoredBytes != next.chunk.Offset) {
			if err := send(); err != nil {
				return err
			}
		}
		run = append(run, *next)
		w.parts -= len(next.places)
	}
	w.pending = append(w.pending[:0], w.pending[n:]...)
	return send()
}

// run fills the places of chunks that lie end to end, by one request to the store.
func (w *writer) run(ctx context.Context, chunks *physical.Chunks, run []work) (err error) {
	if w.r.Delta {
		if run, err = w.missing(run); err != nil || len(run) == 0 {
			return err
		}
	}
	first, last := run[0].chunk, run[len(run)-1].chunk
	in, err := w.r.Source.OpenPack(ctx, first.Pack, first.Offset, last.Offset+last.StoredBytes-first.Offset)
	if err != nil {
		return fmt.Errorf("open chunks %d to %d in %s: %w", first.ID, last.ID, first.Pack, err)
	}
	defer func() {
		if closeErr := in.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close chunks in %s: %w", first.Pack, closeErr)
		}
	}()
	at := first.Offset
	for _, next := range run {
		if _, err := io.CopyN(io.Discard, in, next.chunk.Offset-at); err != nil { // of a chunk that is there
			return fmt.Errorf("read %s: %w", first.Pack, err)
		}
		at = next.chunk.Offset + next.chunk.StoredBytes
		plain, err := chunks.Open(io.LimitReader(in, next.chunk.StoredBytes), next.chunk)
		if err != nil {
			return err
		}
		for _, p := range next.places {
			if err := fill(p, plain[p.from:p.to]); err != nil {
				return fmt.Errorf("write %q: %w", p.name, err)
			}
			w.meter.Add(p.to - p.from)
		}
		w.fetched.Add(next.chunk.PlainBytes)
		failpoint.Hit(ctx, "cluster-chunk")
	}
	return nil
}

// fill writes bytes of a file.
func fill(p place, plain []byte) error {
	file, err := p.b.root.OpenFile(p.name, os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	if _, err = file.WriteAt(plain, p.at); err == nil {
		durable.Begin(file, p.at, int64(len(plain)))
	}
	return errors.Join(err, file.Close())
}

// missing returns the chunks of a run that are not in their places already. A chunk is
// known by the hash of all its bytes.
func (w *writer) missing(run []work) (missing []work, err error) {
	for _, next := range run {
		same, err := next.there()
		if err != nil {
			return nil, err
		}
		if !same {
			missing = append(missing, next)
			continue
		}
		w.kept.Add(next.chunk.PlainBytes)
		w.meter.Add(next.chunk.PlainBytes)
	}
	return missing, nil
}

// there reports whether the places of a chunk have its bytes.
func (k work) there() (bool, error) {
	slices.SortFunc(k.places, func(a, b place) int { return cmp.Compare(a.from, b.from) })
	sum := sha256.New()
	end := int64(0)
	for _, p := range k.places {
		if p.from != end {
			return false, nil // some of its bytes are nowhere, or in two places
		}
		end = p.to
		file, err := p.b.root.Open(p.name)
		if err != nil {
			return false, err
		}
		_, err = io.Copy(sum, io.NewSectionReader(file, p.at, p.to-p.from))
		if err = errors.Join(err, file.Close()); err != nil {
			return false, fmt.Errorf("read %q: %w", p.name, err)
		}
	}
	return end == k.chunk.PlainBytes && hex.EncodeToString(sum.Sum(nil)) == k.chunk.PlainSHA256, nil
}
