package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// maxWrapBytes is what a wrapped key may have: a post-quantum one has some
	// 3,000 bytes.
	maxWrapBytes = 16 << 10
	// maxWraps is how many are read of one backup.
	maxWraps = 256
)

// Wrap is a backup's key as it is stored, wrapped to one way to open it.
type Wrap struct {
	Name string
	Data []byte
	// Odd says why there is no Data; it is empty else.
	Odd string
}

// Wraps are the ways to open a backup.
type Wraps []Wrap

// Get returns the wrap of a name, or nil.
func (w Wraps) Get(name string) []byte {
	for _, wrap := range w {
		if wrap.Name == name {
			return wrap.Data
		}
	}
	return nil
}

// Has reports whether there is a wrap of that name, be it odd.
func (w Wraps) Has(name string) bool {
	return slices.ContainsFunc(w, func(wrap Wrap) bool { return wrap.Name == name })
}

// AddKey stores one wrap of a backup's key under a name.
func (c *Catalog) AddKey(ctx context.Context, b *pgmedic.Backup, name string, wrapped []byte) error {
	if _, err := c.store.Put(ctx, Key(b, keysFolder+"/"+EscapeName(name)+".age"), bytes.NewReader(wrapped)); err != nil {
		return fmt.Errorf("store key %q of backup %s: %w", name, b.ID, err)
	}
	return nil
}

// Keys returns the wraps of a backup's key: those that are named first, in that
// order, and all others by their name. What can't be one, and what is beyond the
// number that is read, comes without data: anyone who can write to the store can
// add such files, and none may keep a backup from being opened.
func (c *Catalog) Keys(ctx context.Context, b *pgmedic.Backup, first ...string) (Wraps, error) {
	var wraps Wraps
	for w, err := range c.EachKey(ctx, b, first...) {
		if err != nil {
			return nil, err
		}
		wraps = append(wraps, w)
	}
	return wraps, nil
}

// EachKey is Keys one by one: those that are named first cost one request each, and
// the others are not listed before they are asked for. It ends after an error.
func (c *Catalog) EachKey(ctx context.Context, b *pgmedic.Backup, first ...string) iter.Seq2[Wrap, error] {
	return func(yield func(Wrap, error) bool) {
		n := 0
		for _, name := range first {
			if store.CheckKey(Key(b, keysFolder+"/"+name+".age")) != nil {
				continue
			}
			w, err := c.readKey(ctx, b, name)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if n++; !yield(w, err) || err != nil {
				return
			}
		}
		c.otherKeys(ctx, b, first, n, yield)
	}
}

// otherKeys yields the keys that are not among the first, of which there were n.
func (c *Catalog) otherKeys(ctx context.Context, b *pgmedic.Backup, first []string, n int, yield func(Wrap, error) bool) {
	folder := Key(b, keysFolder+"/")
	var wraps Wraps
	for object, err := range c.store.List(ctx, folder) {
		if err != nil {
			yield(Wrap{}, fmt.Errorf("list the keys of backup %s: %w", b.ID, err))
			return
		}
		name, ok := strings.CutSuffix(strings.TrimPrefix(object.Key, folder), ".age")
		if !ok || name == "" || strings.Contains(name, "/") || slices.Contains(first, name) {
			continue
		}
		w := Wrap{Name: name}
		if object.SizeBytes > maxWrapBytes {
			w.Odd = wrapTooLarge
		}
		wraps = append(wraps, w)
	}
	for _, w := range wraps {
		var err error
		switch n++; {
		case w.Odd != "":
		case n > maxWraps:
			w.Odd = fmt.Sprintf("more than %d keys", maxWraps)
		default:
			if w, err = c.readKey(ctx, b, w.Name); errors.Is(err, store.ErrNotFound) { // removed meanwhile
				continue
			}
		}
		if !yield(w, err) || err != nil {
			return
		}
	}
}

// wrapTooLarge says what is odd about a wrap.
const wrapTooLarge = "larger than a key"

func (c *Catalog) readKey(ctx context.Context, b *pgmedic.Backup, name string) (Wrap, error) {
	data, err := c.read(ctx, Key(b, keysFolder+"/"+name+".age"), maxWrapBytes)
	switch {
	case errors.Is(err, errTooLarge):
		return Wrap{Name: name, Odd: wrapTooLarge}, nil
	case err != nil:
		return Wrap{}, fmt.Errorf("read key %q of backup %s: %w", name, b.ID, err)
	}
	return Wrap{Name: name, Data: data}, nil
}

// RemoveKey removes the wrap that Keys returns under a name. It is the caller's
// to keep another one: without any, the backup can never be opened again.
func (c *Catalog) RemoveKey(ctx context.Context, b *pgmedic.Backup, name string) error {
	if name == "" || strings.ContainsAny(name, "/\\") {
		return pgmedic.Errorf(pgmedic.KindUsage, "pgmedic keys list shows the names", "%q is not the name of a key", name)
	}
	if err := c.store.Delete(ctx, Key(b, keysFolder+"/"+name+".age")); err != nil {
		return fmt.Errorf("remove key %q of backup %s: %w", name, b.ID, err)
	}
	return nil
}

// RestoreKey stores a wrap again that RemoveKey removed, under the name that Keys
// returned.
func (c *Catalog) RestoreKey(ctx context.Context, b *pgmedic.Backup, name string, wrapped []byte) error {
	if _, err := c.store.Put(ctx, Key(b, keysFolder+"/"+name+".age"), bytes.NewReader(wrapped)); err != nil {
		return fmt.Errorf("store key %q of backup %s again: %w", name, b.ID, err)
	}
	return nil
}
