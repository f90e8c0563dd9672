package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

// anchorEvery is how often the log's head is stored in each store, at the end of a run.
const anchorEvery = 24 * time.Hour

// anchorsFolder is where the anchors of a host are in a store.
func anchorsFolder(host string) string { return catalog.AnchorsFolder + catalog.EscapeName(host) + "/" }

// anchorKey matches the key of an anchor: folder, log, and number of the record.
var anchorKey = regexp.MustCompile(`^audit/[^/]+/([0-9a-f]{16})/(\d{12})\.json$`)

// anchorAgain is how long a store is left alone in which no anchor could be stored.
const anchorAgain = time.Hour

// anchorPatience is how long a run waits for one store at its end.
const anchorPatience = 5 * time.Second

// dueAnchors are the stores in which the log's head is to be stored now.
func dueAnchors(all []storeOf, in map[string]audit.Anchoring, now time.Time) (due []storeOf) {
	// What is in the future was written by a clock that was wrong.
	within := func(at time.Time, d time.Duration) bool { return now.Sub(at) >= 0 && now.Sub(at) < d }
	for _, s := range all {
		if a := in[s.Name]; !within(a.At, anchorEvery) && !within(a.Tried, anchorAgain) {
			due = append(due, s)
		}
	}
	return due
}

// storeAnchors stores the log's head in each store that has none of the last day. A store
// that can't be reached is tried again by a run an hour later; audit verify says what is
// anchored. The end of ctx ends it.
func (t *trail) storeAnchors(ctx context.Context) {
	in, fresh, err := t.log.Anchored(ctx, t.run)
	if fresh || ctx.Err() != nil {
		return
	}
	if err != nil {
		t.job.log.Warn("the audit log is not anchored", "error", words.OneLine(err.Error()), "hint", cmp.Or(pgmedic.HintOf(err), "`pgmedic audit verify` shows what is anchored"))
		return
	}
	st := stores{t.job}
	for _, s := range dueAnchors(t.job.cfg.Stores(), in, t.job.now()) {
		err := t.anchorIn(ctx, st, s)
		if ctx.Err() != nil {
			return
		}
		if err == nil || pgmedic.KindOf(err) == pgmedic.KindNotFound { // a folder that no backup has made yet
			continue
		}
		if noteErr := t.log.NoteUnanchored(ctx, audit.Entry{Actor: t.actor, Run: t.run}, s.Name, pgmedic.KindOf(err)); noteErr != nil {
			err = errors.Join(err, noteErr)
		}
		t.job.log.Warn("the audit log is not anchored in a store", "store", s.Name, "error", words.OneLine(err.Error()), "hint", cmp.Or(pgmedic.HintOf(err), "`pgmedic check` tests the store"))
	}
}

func (t *trail) anchorIn(ctx context.Context, st stores, s storeOf) error {
	within, cancel := context.WithTimeoutCause(ctx, anchorPatience,
		pgmedic.Errorf(pgmedic.KindUnreachable, "`pgmedic check` tests the store", "the store did not answer within %s", words.Duration(anchorPatience)))
	defer cancel()
	c, closed, err := st.openPlace(within, s.Place, s.Access, true)
	if err != nil {
		return err
	}
	defer closed()
	head, err := t.putAnchor(within, c.Store())
	if err != nil || head == nil {
		return err
	}
	// It is stored, so that is recorded, whatever ends now.
	return t.log.NoteAnchor(context.WithoutCancel(ctx), audit.Entry{Actor: t.actor, Run: t.run}, s.Name, c.Store().String(), *head)
}

// putAnchor stores the log's head in one store, and returns it; nil where there is none.
func (t *trail) putAnchor(ctx context.Context, s store.Store) (*pgmedic.AuditAnchor, error) {
	head, begun, err := t.log.Head(ctx, t.run)
	if err != nil || !begun {
		return nil, err
	}
	data, err := audit.StoredAnchor{AuditAnchor: head}.Encode()
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%s%s/%012d.json", anchorsFolder(hostName()), head.Log, head.Seq)
	if _, err := s.Put(ctx, key, bytes.NewReader(data)); err != nil && !errors.Is(err, store.ErrExists) {
		return nil, fmt.Errorf("store an anchor of the audit log: %w", err)
	}
	return &head, nil
}

// anchors are what audit verify found in the stores.
type anchors struct {
	found []audit.FoundAnchor
	// stored are the names of all stored anchors, of which the newest alone are read.
	stored []audit.StoredName
	// read are the stores that were read, unread says why others were not.
	read   []string
	unread error
	readAt time.Time
}

// mostAnchors is how many stored anchors of one log are read: the newest ones, which
// confirm what comes before them. Of the others it is enough that they are there.
const mostAnchors = 20

// mostStored bounds what is held of names that anyone who can write to a store can make:
// one a day for decades, of several logs.
const mostStored = 100_000

// readAnchors reads all anchors that the configured stores have, or those of names.
func (cmd *auditVerifyCommand) readAnchors(ctx context.Context) (anchors, error) {
	a := anchors{readAt: cmd.now()}
	known := []string{}
	for _, s := range cmd.cfg.Stores() {
		known = append(known, s.Name)
	}
	for _, name := range cmd.stores {
		if !slices.ContainsFunc(cmd.cfg.Stores(), func(s storeOf) bool { return s.Is(name, cmd.dir) }) {
			return a, pgmedic.Errorf(pgmedic.KindUsage, "the configured stores are "+strings.Join(known, ", "), "--store %s is not a configured store", name)
		}
	}
	for _, s := range cmd.cfg.Stores() {
		if len(cmd.stores) > 0 && !slices.ContainsFunc(cmd.stores, func(name string) bool { return s.Is(name, cmd.dir) }) {
			continue
		}
		c, closed, err := cmd.places.openPlace(ctx, s.Place, s.Access, true)
		if err == nil {
			err = a.readStore(ctx, s.Name, c)
			closed()
		}
		switch {
		case ctx.Err() != nil:
			return a, context.Cause(ctx)
		case err != nil:
			a.unread = errors.Join(a.unread, fmt.Errorf("store %s: %w", s.Name, err))
		default:
			a.read = append(a.read, c.Store().String())
		}
	}
	return a, nil
}

// readStore reads the anchors of one store: those stored by themselves, and those in
// manifests and receipts.
func (a *anchors) readStore(ctx context.Context, name string, c *catalog.Catalog) error {
	place := c.Store().String()
	byLog := map[string][]string{}
	for o, err := range c.Store().List(ctx, anchorsFolder(hostName())) {
		if err != nil {
			return fmt.Errorf("list the anchors of the audit log: %w", err)
		}
		m := anchorKey.FindStringSubmatch(o.Key)
		if m == nil {
			continue
		}
		seq, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			continue
		}
		if len(a.stored) >= mostStored {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "find out who can write to the store", "it has more than %s anchors in %s", pgmedic.Count(mostStored), anchorsFolder(hostName()))
		}
		a.stored = append(a.stored, audit.StoredName{Place: place, Log: m[1], Seq: seq})
		byLog[m[1]] = append(byLog[m[1]], o.Key) // they come in order
	}
	for _, keys := range byLog {
		for _, key := range keys[max(0, len(keys)-mostAnchors):] {
			found, err := readAnchor(ctx, c.Store(), key)
			if err != nil {
				return err
			}
			found.Where = name + " (" + path.Base(path.Dir(key)) + "/" + path.Base(key) + ")"
			a.found = append(a.found, found)
		}
	}
	listing, err := c.List(ctx, catalog.Filter{})
	if err != nil {
		return fmt.Errorf("read the manifests: %w", err)
	}
	for _, e := range listing.Entries {
		if m := e.Backup.Audit; m != nil {
			a.found = append(a.found, audit.FoundAnchor{AuditAnchor: *m, Where: "the manifest of " + e.Backup.ID + " in " + name})
		}
		for _, r := range e.Receipts {
			if r.Audit != nil {
				a.found = append(a.found, audit.FoundAnchor{AuditAnchor: *r.Audit, Where: "a receipt of " + e.Backup.ID + " in " + name})
			}
		}
	}
	return nil
}

// readAnchor reads one stored anchor. One that is not valid authenticates nothing.
func readAnchor(ctx context.Context, s store.Store, key string) (audit.FoundAnchor, error) {
	r, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return audit.FoundAnchor{}, fmt.Errorf("read an anchor of the audit log: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(r, audit.MaxAnchorBytes))
	if err = errors.Join(err, r.Close()); err != nil {
		return audit.FoundAnchor{}, fmt.Errorf("read an anchor of the audit log: %w", err)
	}
	m := anchorKey.FindStringSubmatch(key)
	found := audit.FoundAnchor{}
	if stored, err := audit.ParseAnchor(data); err == nil {
		found.AuditAnchor = stored.AuditAnchor
	}
	if found.Log != m[1] || fmt.Sprintf("%012d", found.Seq) != m[2] { // not what its name says
		seq, _ := strconv.ParseInt(m[2], 10, 64) // digits
		found.AuditAnchor = pgmedic.AuditAnchor{Log: m[1], Seq: seq}
	}
	return found, nil
}
