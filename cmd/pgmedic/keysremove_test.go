package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
)

// racingStore is a store in which another run does something just before a
// delete.
type racingStore struct {
	store.Store
	before func()
}

func (s *racingStore) Delete(ctx context.Context, key string) error {
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
	return s.Store.Delete(ctx, key)
}

// TestRemoveLastKeyAtOnce: two runs that each remove one of two keys, having
// both seen the two, leave one at least.
func TestRemoveLastKeyAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		other string // what the other run removes meanwhile
		left  []string
	}{
		"the other one":  {"two", []string{"one"}},
		"a third":        {"three", []string{"two"}},
		"the same":       {"one", []string{"three", "two"}},
		"nobody does it": {"", []string{"three", "two"}},
	} {
		t.Run(name, func(t *testing.T) {
			local, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = local.Close() }()
			racing := &racingStore{Store: local}
			c := catalog.New(racing)
			b := &pgmedic.Backup{ID: "20261122T020000Z-7f3a9c", Server: pgmedic.Server{Name: "main"}, Database: pgmedic.Database{Name: "shop"}}
			id, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			key, err := seal.NewKey(id.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			wrapped, err := key.Wrap(id.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			names := []string{"one", "two", "three"}
			if test.other == "two" {
				names = names[:2]
			}
			for _, n := range names {
				if err := c.AddKey(t.Context(), b, n, wrapped); err != nil {
					t.Fatal(err)
				}
			}
			wraps, err := c.Keys(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			racing.before = func() {
				if test.other != "" {
					if err := catalog.New(local).RemoveKey(t.Context(), b, test.other); err != nil {
						t.Error(err)
					}
				}
			}
			err = removeKey(t.Context(), c, b, wraps, "one", "")
			if lost := test.other == "two"; lost != (pgmedic.KindOf(err) == pgmedic.KindConflict && err != nil) || lost && !strings.Contains(err.Error(), "was put back") {
				t.Errorf("got %v", err)
			}
			now, err := c.Keys(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, w := range now {
				left = append(left, w.Name)
			}
			slices.Sort(left)
			if !slices.Equal(left, test.left) {
				t.Errorf("left are %q, want %q", left, test.left)
			}
			if errors.Is(err, store.ErrExists) {
				t.Error(err)
			}
		})
	}
}
