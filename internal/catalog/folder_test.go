package catalog_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/store"
)

// counting counts what listings of a store yield, which is what its requests depend on,
// and the listings.
type counting struct {
	store.Store
	listings, keys, folders *int
}

func (c counting) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		*c.listings++
		for o, err := range c.Store.List(ctx, prefix) {
			*c.keys++
			if !yield(o, err) {
				return
			}
		}
	}
}

func (c counting) Folders(ctx context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		*c.listings++
		for f, err := range c.Store.Folders(ctx, folder) {
			*c.folders++
			if !yield(f, err) {
				return
			}
		}
	}
}

// TestListCosts: what a listing costs depends on the backups, not on what else is stored
// beside them and below their server.
func TestListCosts(t *testing.T) {
	const backups = 5
	beside := 1_200 // more than servers list at once
	if os.Getenv("PGMEDIC_TEST_ALL") != "" {
		beside = 3_000
	}
	for name, folder := range map[string]string{
		"beside": "wal",
		// Its name begins as all ids do.
		"beside, alike": "20261122T12",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			var want []string
			for i := range backups {
				want = append([]string{f.commit(t, backup(i+1)).ID}, want...)
			}
			listed := func() (listings, keys, folders int) {
				c := catalog.New(counting{f.Store(), &listings, &keys, &folders})
				for _, filter := range []catalog.Filter{{}, {Server: "main", Database: "shop"}, {Database: "shop"}, {Server: "main"}} {
					l, err := c.List(t.Context(), filter)
					if err != nil || ids(l) != strings.Join(want, " ") {
						t.Fatalf("%+v: listed %s, %v; want %s", filter, ids(l), err, want)
					}
				}
				return listings, keys, folders
			}
			listingsBefore, keysBefore, foldersBefore := listed()
			for i := range beside {
				f.put(t, fmt.Sprintf("main/shop/%s/%06d/x", folder, i), "x")
				if i%10 == 0 {
					f.put(t, fmt.Sprintf("main/%s/a/b/%06d", folder, i), "x")
				}
			}
			listings, keys, folders := listed()
			if keys != keysBefore {
				t.Errorf("%d keys were listed, %d before others were beside them", keys, keysBefore)
			}
			if listings > listingsBefore+4*(backups+1) || folders > foldersBefore+4*3 {
				t.Errorf("%d listings and %d folders, before others were beside them %d and %d", listings, folders, listingsBefore, foldersBefore)
			}
		})
	}
}
