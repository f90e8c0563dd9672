package s3

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

var (
	_ store.Locker    = (*Store)(nil)
	_ store.Versioned = (*Store)(nil)
)

// noLockCodes are of answers that say that a bucket, or an object, has no lock.
var noLockCodes = []string{"ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound", "NoSuchObjectLockConfiguration", "InvalidRequest"}

// CheckLocks implements store.Locker. It needs s3:GetBucketObjectLockConfiguration.
func (s *Store) CheckLocks(ctx context.Context) error {
	out, err := s.client.GetObjectLockConfiguration(ctx, &awss3.GetObjectLockConfigurationInput{Bucket: &s.o.Bucket})
	switch {
	case err == nil && out.ObjectLockConfiguration != nil && out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled:
		at, _ := awsmiddleware.GetServerTime(out.ResultMetadata)
		if at.IsZero() { // not every server says it
			return nil
		}
		return store.CheckLockClock(s.name, at)
	case err == nil, hasCode(err, noLockCodes...), hasCode(err, "NotImplemented", "501"):
		return pgmedic.Errorf(pgmedic.KindUsage, "have Object Lock enabled for the bucket, use one that has it, or set object_lock to off",
			"%s can't lock objects: the bucket has no Object Lock", s.name)
	}
	return s.failed(ctx, "ask for the bucket's object lock", "", err)
}

// KeepsVersions implements store.Versioned. It needs s3:GetBucketVersioning. A bucket whose
// versioning is suspended still has the versions that there were, and keeps no more.
func (s *Store) KeepsVersions(ctx context.Context) (bool, error) {
	out, err := s.client.GetBucketVersioning(ctx, &awss3.GetBucketVersioningInput{Bucket: &s.o.Bucket})
	switch {
	case hasCode(err, "NotImplemented", "501", "VersioningNotConfigured"):
		return false, nil
	case err != nil:
		return false, s.failed(ctx, "ask for the bucket's versioning", "", err)
	}
	return out.Status == types.BucketVersioningStatusEnabled, nil
}

// PutLocked implements store.Locker. Before the first one it asks whether the bucket can lock:
// there are servers that take a lock for a bucket that can't, and forget it.
func (s *Store) PutLocked(ctx context.Context, key string, r io.Reader, l store.Lock) (store.Object, error) {
	if !s.locks.Load() {
		if err := s.CheckLocks(ctx); err != nil {
			return store.Object{}, fmt.Errorf("put %s: %w", key, err)
		}
		s.locks.Store(true)
	}
	return s.put(ctx, key, r, l.WholeSeconds())
}

// modeOf and holdOf are a lock in S3's words.
func modeOf(l store.Lock) types.ObjectLockMode {
	return types.ObjectLockMode(strings.ToUpper(string(l.Mode)))
}

func holdOf(l store.Lock) types.ObjectLockLegalHoldStatus {
	if l.Held {
		return types.ObjectLockLegalHoldStatusOn
	}
	return ""
}

// lockPut has a request put an object with the lock.
func lockPut(in *awss3.PutObjectInput, l store.Lock) {
	if !l.Until.IsZero() {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = modeOf(l), aws.Time(l.Until)
	}
	in.ObjectLockLegalHoldStatus = holdOf(l)
}

// lockUpload is lockPut of an upload in parts.
func lockUpload(in *awss3.CreateMultipartUploadInput, l store.Lock) {
	if !l.Until.IsZero() {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = modeOf(l), aws.Time(l.Until)
	}
	in.ObjectLockLegalHoldStatus = holdOf(l)
}

// LockUntil implements store.Locker. It needs s3:GetObjectRetention and s3:PutObjectRetention.
func (s *Store) LockUntil(ctx context.Context, key string, l store.Lock) error {
	const op = "lock"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return err
	}
	there, err := s.retention(ctx, name)
	if err != nil {
		return s.failed(ctx, op, key, err)
	}
	l = l.WholeSeconds()
	if !there.Until.Before(l.Until) {
		return nil
	}
	if there.Mode == store.LockCompliance { // which can't become less
		l.Mode = there.Mode
	}
	_, err = s.client.PutObjectRetention(ctx, &awss3.PutObjectRetentionInput{
		Bucket: &s.o.Bucket, Key: &name, ChecksumAlgorithm: s.checksum(),
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionMode(modeOf(l)), RetainUntilDate: aws.Time(l.Until)},
	})
	if err != nil {
		return s.failed(ctx, op, key, err)
	}
	return nil
}

// Hold implements store.Locker. It needs s3:PutObjectLegalHold.
func (s *Store) Hold(ctx context.Context, key string, held bool) error {
	const op = "hold"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return err
	}
	status := types.ObjectLockLegalHoldStatusOff
	if held {
		status = types.ObjectLockLegalHoldStatusOn
	}
	_, err = s.client.PutObjectLegalHold(ctx, &awss3.PutObjectLegalHoldInput{
		Bucket: &s.o.Bucket, Key: &name, ChecksumAlgorithm: s.checksum(), LegalHold: &types.ObjectLockLegalHold{Status: status},
	})
	if err != nil {
		return s.failed(ctx, op, key, err)
	}
	return nil
}

// LockOf implements store.Locker. The answer to a HEAD has it, and leaves it out where the
// credentials may not see it: then it is asked for, which needs s3:GetObjectRetention and
// s3:GetObjectLegalHold.
func (s *Store) LockOf(ctx context.Context, key string) (store.Lock, error) {
	const op = "read the lock of"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return store.Lock{}, err
	}
	there, err := s.head(ctx, name)
	if err != nil {
		return store.Lock{}, s.failed(ctx, op, key, err)
	}
	l := store.Lock{Held: there.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn}
	if there.ObjectLockMode != "" {
		l.Mode, l.Until = store.LockMode(strings.ToLower(string(there.ObjectLockMode))), aws.ToTime(there.ObjectLockRetainUntilDate).UTC()
	} else {
		asked, err := s.retention(ctx, name)
		if err != nil {
			return store.Lock{}, s.failed(ctx, op, key, err)
		}
		l.Mode, l.Until = asked.Mode, asked.Until
	}
	if there.ObjectLockLegalHoldStatus == "" {
		out, err := s.client.GetObjectLegalHold(ctx, &awss3.GetObjectLegalHoldInput{Bucket: &s.o.Bucket, Key: &name})
		switch {
		case hasCode(err, noLockCodes...):
		case err != nil:
			return store.Lock{}, s.failed(ctx, op, key, err)
		default:
			l.Held = out.LegalHold != nil && out.LegalHold.Status == types.ObjectLockLegalHoldStatusOn
		}
	}
	return l, nil
}

// retention asks until when an object is locked, beside a legal hold.
func (s *Store) retention(ctx context.Context, name string) (store.Lock, error) {
	out, err := s.client.GetObjectRetention(ctx, &awss3.GetObjectRetentionInput{Bucket: &s.o.Bucket, Key: &name})
	switch {
	case hasCode(err, noLockCodes...):
		return store.Lock{}, nil
	case err != nil:
		return store.Lock{}, err
	case out.Retention == nil:
		return store.Lock{}, nil
	}
	return store.Lock{Mode: store.LockMode(strings.ToLower(string(out.Retention.Mode))), Until: aws.ToTime(out.Retention.RetainUntilDate).UTC()}, nil
}
