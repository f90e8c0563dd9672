package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/remote"
)

// A lock is the retention of an object, which the bucket must allow, and a hold its
// temporary hold: https://docs.cloud.google.com/storage/docs/object-lock.

const (
	modeGovernance = "Unlocked"
	modeCompliance = "Locked"
	// lockFields are what is asked of an object's lock.
	lockFields = "generation,metageneration,retention,retentionExpirationTime,temporaryHold,eventBasedHold"
)

// retentionOf is a lock in Google's words, nil where it has no time.
func retentionOf(l store.Lock) *retention {
	if l.Until.IsZero() {
		return nil
	}
	r := &retention{Mode: modeGovernance, RetainUntilTime: l.Until.UTC()}
	if l.Mode == store.LockCompliance {
		r.Mode = modeCompliance
	}
	return r
}

// CanLock implements remote.LockService. It needs storage.buckets.get.
func (s *service) CanLock(ctx context.Context) (remote.Ability, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.api.bucketItself(url.Values{"fields": {"objectRetention"}}), nil)
	if err != nil {
		return remote.Ability{}, err
	}
	var bucket struct {
		ObjectRetention struct {
			Mode string `json:"mode"`
		} `json:"objectRetention"`
	}
	_, header, err := s.api.ask(s.api.client(), r, &bucket)
	if err != nil {
		return remote.Ability{}, ofBucket(err)
	}
	var a remote.Ability
	if at, err := http.ParseTime(header.Get("Date")); err == nil {
		a.At = at
	}
	if bucket.ObjectRetention.Mode != "Enabled" {
		a.Unable = "object retention is not enabled for the bucket"
		a.Hint = "enable object retention for the bucket, use one that has it, or set object_lock to off"
	}
	return a, nil
}

// Lock implements remote.LockService. A retention policy of the bucket counts, too, and so
// does an event-based hold, which SetHold does not take off.
func (s *service) Lock(ctx context.Context, name string) (remote.Locked, error) {
	var o object
	if err := s.api.call(ctx, http.MethodGet, s.api.object(name, url.Values{"fields": {lockFields}}), &o); err != nil {
		return remote.Locked{}, err
	}
	l := remote.Locked{Version: fmt.Sprintf("%d/%d", o.Generation, o.Metageneration), Lock: store.Lock{Held: o.TemporaryHold || o.EventBasedHold}}
	if o.Retention != nil && !o.Retention.RetainUntilTime.IsZero() {
		l.Mode, l.Until = store.LockGovernance, o.Retention.RetainUntilTime.UTC()
		if o.Retention.Mode == modeCompliance {
			l.Mode = store.LockCompliance
		}
		l.Own = l.Mode
	}
	if of := timeOf(o.RetentionExpirationTime); of.After(l.Until) {
		l.Mode, l.Until = store.LockGovernance, of.UTC() // the bucket's policy may be one that can be removed
	}
	return l, nil
}

// Extend implements remote.LockService. It needs storage.objects.update and
// storage.objects.setRetention, and storage.objects.overrideUnlockedRetention where a lock
// becomes one of compliance.
func (s *service) Extend(ctx context.Context, name string, was remote.Locked, l store.Lock) error {
	generation, metageneration, _ := strings.Cut(was.Version, "/")
	query := url.Values{"fields": {lockFields}, "ifGenerationMatch": {generation}, "ifMetagenerationMatch": {metageneration}}
	if l.Mode == store.LockCompliance && was.Own == store.LockGovernance {
		query.Set("overrideUnlockedRetention", "true") // asked for a change of mode, too
	}
	got, err := s.patch(ctx, name, query, map[string]any{"retention": retentionOf(l)})
	if err != nil {
		return err
	}
	if got.Retention == nil || got.Retention.RetainUntilTime.Before(l.Until) {
		return pgmedic.Errorf(pgmedic.KindFailed, "use another store", "the server took a lock, and set none that lasts as long")
	}
	return nil
}

// Overwrites implements remote.LockService: each Extend has the metageneration as its
// condition.
func (s *service) Overwrites(store.LockMode) bool { return false }

// SetHold implements remote.LockService. It needs storage.objects.update.
func (s *service) SetHold(ctx context.Context, name string, held bool) error {
	got, err := s.patch(ctx, name, url.Values{"fields": {lockFields}}, map[string]any{"temporaryHold": held})
	if err == nil && got.TemporaryHold != held {
		err = pgmedic.Errorf(pgmedic.KindFailed, "use another store", "the server took a hold, and did not set it")
	}
	return err
}

// patch changes what Google keeps of an object beside its content, and returns that.
func (s *service) patch(ctx context.Context, name string, query url.Values, change map[string]any) (*object, error) {
	client, err := s.api.locking()
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPatch, s.api.object(name, query), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", jsonType)
	var o object
	_, _, err = s.api.ask(client, r, &o)
	return &o, err
}
