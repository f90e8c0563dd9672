package azure

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/remote"
)

// A lock is a version-level immutability policy of a blob, and a hold its legal hold:
// https://learn.microsoft.com/azure/storage/blobs/immutable-version-level-worm-policies.

// policyMode, policyExpiry and legalHold are a lock in Azure's words, nil where it has no
// such part.
func policyMode(l store.Lock) *blob.ImmutabilityPolicySetting {
	switch {
	case l.Until.IsZero():
		return nil
	case l.Mode == store.LockCompliance:
		return to.Ptr(blob.ImmutabilityPolicySettingLocked)
	}
	return to.Ptr(blob.ImmutabilityPolicySettingUnlocked)
}

func policyExpiry(l store.Lock) *time.Time {
	if l.Until.IsZero() {
		return nil
	}
	return &l.Until
}

func legalHold(l store.Lock) *bool {
	if !l.Held {
		return nil
	}
	return &l.Held
}

const (
	containerHint = "use a container with version-level immutability (docs/stores.md says how it is made), or set object_lock to off"
	abilityHint   = "to lock, credentials must be able to read the container's properties, which a signature of the container can't allow: docs/stores.md lists what they need"
)

// abilityError is that of a request for the container's properties.
type abilityError struct{ error }

func (e *abilityError) Unwrap() error { return e.error }

// CanLock implements remote.LockService. It needs the action containers/read, and no
// signature of a container can have that.
func (s *service) CanLock(ctx context.Context) (remote.Ability, error) {
	got, err := s.calls().properties(ctx)
	if err != nil {
		return remote.Ability{}, &abilityError{err}
	}
	a := remote.Ability{At: value(got.Date)}
	if !value(got.IsImmutableStorageWithVersioningEnabled) {
		a.Unable, a.Hint = "the container has no version-level immutability", containerHint
	}
	return a, nil
}

// Lock implements remote.LockService.
func (s *service) Lock(ctx context.Context, name string) (remote.Locked, error) {
	got, err := s.calls().head(ctx, name)
	if err != nil {
		return remote.Locked{}, err
	}
	if meta(got.Metadata, folderMeta) == "true" {
		return remote.Locked{}, errFolder
	}
	l := remote.Locked{Lock: store.Lock{Held: value(got.LegalHold)}}
	switch mode := string(value(got.ImmutabilityPolicyMode)); {
	case strings.EqualFold(mode, string(blob.ImmutabilityPolicyModeUnlocked)):
		l.Mode = store.LockGovernance
	case strings.EqualFold(mode, string(blob.ImmutabilityPolicyModeLocked)):
		l.Mode = store.LockCompliance
	default:
		return l, nil
	}
	l.Own, l.Until = l.Mode, value(got.ImmutabilityPolicyExpiresOn).UTC()
	return l, nil
}

// Extend implements remote.LockService. Azure knows no condition that a policy be as it
// was (the request has If-Unmodified-Since alone, and a policy changes neither that time
// nor the ETag). It refuses to shorten one that is locked; of two hosts that lengthen an
// unlocked one at the same time, the later request counts.
func (s *service) Extend(ctx context.Context, name string, _ remote.Locked, l store.Lock) error {
	got, err := s.calls().policy(ctx, name, l.Until, &blob.SetImmutabilityPolicyOptions{Mode: policyMode(l)})
	if err != nil {
		return err
	}
	if value(got.ImmutabilityPolicyExpiry).Before(l.Until) {
		return pgmedic.Errorf(pgmedic.KindFailed, "use another store", "the server took a lock, and set none that lasts as long")
	}
	return nil
}

// Overwrites implements remote.LockService: a locked policy can't be made shorter.
func (s *service) Overwrites(mode store.LockMode) bool { return mode != store.LockCompliance }

// SetHold implements remote.LockService.
func (s *service) SetHold(ctx context.Context, name string, held bool) error {
	return s.calls().hold(ctx, name, held)
}
