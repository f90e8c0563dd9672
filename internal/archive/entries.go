package archive

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// epochsAtOnce is how many epochs are read and listed at a time.
	epochsAtOnce = 8
	// listedAtOnce is how many objects of an epoch are listed one after the other: those of a
	// day at 1 MB a second, of segments of 16 MiB. Of what follows in a larger one partsAtOnce
	// parts are listed at a time.
	listedAtOnce = 8000
	partsAtOnce  = 4
	// segmentFolder is the length of a name below seg/, which has the segments of 4 GiB of
	// WAL. A part of a listing has sixteen of them: up to 4,096 segments of 16 MiB.
	segmentFolder = 16
)

func listFailed(epoch string, err error) error {
	return fmt.Errorf("list epoch %s of the WAL: %w", epoch, err)
}

// entries yields all objects of an epoch whose names this version knows, each once. A month of
// WAL is hundreds of pages of a bucket's listing, which would take a minute one by one. They
// come in no order.
func (a *Archive) entries(ctx context.Context, epoch string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		prefix := a.folder + epoch + "/"
		n, last := 0, ""
		for entry, err := range a.store.List(ctx, prefix) {
			if err != nil {
				yield(store.Object{}, listFailed(epoch, err))
				return
			}
			if !yield(entry, nil) {
				return
			}
			if n, last = n+1, entry.Key; n == listedAtOnce {
				break
			}
		}
		if n < listedAtOnce {
			return
		}
		parts, err := a.parts(ctx, prefix)
		if err != nil {
			yield(store.Object{}, listFailed(epoch, err))
			return
		}
		lists := make([]func(context.Context) iter.Seq2[store.Object, error], 0, len(parts))
		for _, part := range parts {
			lists = append(lists, func(ctx context.Context) iter.Seq2[store.Object, error] { return a.store.List(ctx, part) })
		}
		for entry, err := range store.Together(ctx, partsAtOnce, lists...) {
			if err != nil {
				yield(store.Object{}, listFailed(epoch, err))
				return
			}
			if entry.Key > last && !yield(entry, nil) {
				return
			}
		}
	}
}

// parts are prefixes in order, none the beginning of another, under which is all of an epoch but
// what no version ever put there.
func (a *Archive) parts(ctx context.Context, prefix string) (parts []string, err error) {
	const segments = "seg/"
	parts = []string{prefix + epochFile}
	for folder, err := range a.store.Folders(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if folder != prefix+segments {
			parts = append(parts, folder)
		}
	}
	for folder, err := range a.store.Folders(ctx, prefix+segments) {
		if err != nil {
			return nil, err
		}
		if name := strings.TrimPrefix(folder, prefix+segments); len(name) == segmentFolder+len("/") {
			folder = folder[:len(folder)-len("0/")]
		}
		parts = append(parts, folder)
	}
	slices.Sort(parts)
	return slices.CompactFunc(parts, func(before, part string) bool { return strings.HasPrefix(part, before) }), nil
}
