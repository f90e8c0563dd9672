package recovery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// PrefetchFolder is beside the files that PostgreSQL is given, so that one becomes the
	// other by a new name alone.
	PrefetchFolder = ".pgmedic-prefetch"
	// prefetchAhead is how many segments are fetched before they are asked for.
	prefetchAhead = 8
	lockName      = "lock"
)

// Prefetch fetches the segments that the recovery reads after one into a folder beside the
// files that PostgreSQL is given, until eight are there. Where another process does that
// it does nothing.
func Prefetch(ctx context.Context, f *Fetcher, folder, after string) (err error) {
	root, err := prefetched(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	lock, err := root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("prefetch WAL: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	ahead := f.plan.Next(after, prefetchAhead)
	there, err := list(root)
	if err != nil {
		return err
	}
	for _, name := range there { // what was fetched for another place in the WAL
		if !slices.ContainsFunc(ahead, func(n string) bool { return strings.HasPrefix(name, n+"-") }) {
			if err := ignoreMissing(root.Remove(name)); err != nil {
				return fmt.Errorf("prefetch WAL: %w", err)
			}
		}
	}
	for _, name := range ahead {
		if slices.ContainsFunc(there, func(t string) bool { return strings.HasPrefix(t, name+"-") && !strings.HasSuffix(t, part) }) {
			continue
		}
		if err := prefetchOne(ctx, f, root, name); err != nil {
			return err
		}
	}
	return nil
}

// prefetchOne fetches one segment. Its name there has the hash of the plan and of its bytes.
func prefetchOne(ctx context.Context, f *Fetcher, root *os.Root, name string) (err error) {
	var plain bytes.Buffer
	if err := f.Fetch(ctx, name, &plain); err != nil {
		return err
	}
	h, err := f.plan.hash()
	if err != nil {
		return err
	}
	h.Write(plain.Bytes())
	final := name + "-" + hex.EncodeToString(h.Sum(nil))
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("prefetch WAL: %w", err), ignoreMissing(root.Remove(final+part)))
		}
	}()
	if err := root.WriteFile(final+part, plain.Bytes(), 0o600); err != nil {
		return err
	}
	return root.Rename(final+part, final)
}

// hash returns a hash that has the plan already: what a process has fetched that began under
// an earlier plan, with another end and other tablespaces, is not a segment of this one.
func (p *Plan) hash() (hash.Hash, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("prefetch WAL: %w", err)
	}
	h := sha256.New()
	h.Write(text)
	return h, nil
}

// prefetched opens the folder of what was prefetched, which belongs to this user alone.
func prefetched(folder string) (_ *os.Root, err error) {
	parent, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("prefetch WAL: %w", err)
	}
	defer func() { err = errors.Join(err, parent.Close()) }()
	if err := parent.Mkdir(PrefetchFolder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("prefetch WAL: %w", err)
	}
	root, err := parent.OpenRoot(PrefetchFolder)
	if err != nil {
		return nil, fmt.Errorf("prefetch WAL: %w", err)
	}
	return root, nil
}

func list(root *os.Root) (names []string, err error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list what was prefetched of the WAL: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Take moves a segment that was prefetched to a path beside the folder, and says how many
// of those that the recovery reads next are there. A segment that is not there, or not
// as it was fetched, is not an error: it is fetched then.
func (p *Plan) Take(folder, name, to string) (taken bool, ahead int, err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return false, 0, fmt.Errorf("take WAL that was prefetched: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	names, err := fs.Glob(root.FS(), PrefetchFolder+"/*-*")
	if err != nil || len(names) == 0 {
		return false, 0, err
	}
	next := p.Next(name, prefetchAhead)
	for _, found := range names {
		base := strings.TrimPrefix(found, PrefetchFolder+"/")
		segment, sum, _ := strings.Cut(base, "-")
		switch {
		case strings.HasSuffix(sum, part):
		case segment == name:
			taken = p.take(root, found, sum, to)
		case slices.Contains(next, segment):
			ahead++
		}
	}
	return taken, ahead, nil
}

// take moves a file that has the hash that its name says, by this plan.
func (p *Plan) take(root *os.Root, found, sum, to string) bool {
	h, err := p.hash()
	if err != nil {
		return false
	}
	f, err := root.Open(found)
	if err != nil {
		return false
	}
	n, err := io.Copy(h, f)
	if errors.Join(err, f.Close()) != nil || n != p.SegmentBytes || hex.EncodeToString(h.Sum(nil)) != sum {
		_ = root.Remove(found) // it is fetched again
		return false
	}
	return root.Rename(found, to) == nil
}

// Ahead returns how many segments should be there that the recovery reads after one.
func (p *Plan) Ahead(name string) int { return len(p.Next(name, prefetchAhead)) }
