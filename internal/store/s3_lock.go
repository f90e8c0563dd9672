package store

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/pgmedic/pgmedic"
)

var (
	_ Locker    = (*S3)(nil)
	_ Versioned = (*S3)(nil)
)

// noLockCodes are of answers that say that a bucket, or an object, has no lock.
var noLockCodes = []string{"ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound", "NoSuchObjectLockConfiguration", "InvalidRequest"}

// CheckLocks implements Locker. It needs s3:GetBucketObjectLockConfiguration.
func (s *S3) CheckLocks(ctx context.Context) error {
	out, err := s.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &s.o.Bucket})
	switch {
	case err == nil && out.ObjectLockConfiguration != nil && out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled:
		at, _ := awsmiddleware.GetServerTime(out.ResultMetadata)
		if at.IsZero() { // not every server says it
			return nil
		}
		return CheckLockClock(s.name, at)
	case err == nil, hasCode(err, noLockCodes...), hasCode(err, "NotImplemented", "501"):
		return pgmedic.Errorf(pgmedic.KindUsage, "have Object Lock enabled for the bucket, use one that has it, or set object_lock to off",
			"%s can't lock objects: the bucket has no Object Lock", s.name)
	}
	return s.failed(ctx, "ask for the bucket's object lock", "", err)
}

// KeepsVersions implements Versioned. It needs s3:GetBucketVersioning. A bucket whose
// versioning is suspended still has the versions that there were, and keeps no more.
func (s *S3) KeepsVersions(ctx context.Context) (bool, error) {
	out, err := s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.o.Bucket})
	switch {
	case hasCode(err, "NotImplemented", "501", "VersioningNotConfigured"):
		return false, nil
	case err != nil:
		return false, s.failed(ctx, "ask for the bucket's versioning", "", err)
	}
	return out.Status == types.BucketVersioningStatusEnabled, nil
}

// PutLocked implements Locker. Before the first one it asks whether the bucket can lock:
// there are servers that take a lock for a bucket that can't, and forget it.
func (s *S3) PutLocked(ctx context.Context, key string, r io.Reader, l Lock) (Object, error) {
	if !s.locks.Load() {
		if err := s.CheckLocks(ctx); err != nil {
			return Object{}, fmt.Errorf("put %s: %w", key, err)
		}
		s.locks.Store(true)
	}
	return s.put(ctx, key, r, l.WholeSeconds())
}

// mode, until and hold are a lock in S3's words.
func (l Lock) mode() types.ObjectLockMode {
	return types.ObjectLockMode(strings.ToUpper(string(l.Mode)))
}

func (l Lock) hold() types.ObjectLockLegalHoldStatus {
	if l.Held {
		return types.ObjectLockLegalHoldStatusOn
	}
	return ""
}

// lock has a request put an object with the lock.
func (l Lock) lock(in *s3.PutObjectInput) {
	if !l.Until.IsZero() {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = l.mode(), aws.Time(l.Until)
	}
	in.ObjectLockLegalHoldStatus = l.hold()
}

// lockUpload is lock of an upload in parts.
func (l Lock) lockUpload(in *s3.CreateMultipartUploadInput) {
	if !l.Until.IsZero() {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = l.mode(), aws.Time(l.Until)
	}
	in.ObjectLockLegalHoldStatus = l.hold()
}

// LockUntil implements Locker. It needs s3:GetObjectRetention and s3:PutObjectRetention.
func (s *S3) LockUntil(ctx context.Context, key string, l Lock) error {
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
	if there.Mode == LockCompliance { // which can't become less
		l.Mode = there.Mode
	}
	_, err = s.client.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
		Bucket: &s.o.Bucket, Key: &name, ChecksumAlgorithm: s.checksum(),
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionMode(l.mode()), RetainUntilDate: aws.Time(l.Until)},
	})
	if err != nil {
		return s.failed(ctx, op, key, err)
	}
	return nil
}

// Hold implements Locker. It needs s3:PutObjectLegalHold.
func (s *S3) Hold(ctx context.Context, key string, held bool) error {
	const op = "hold"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return err
	}
	status := types.ObjectLockLegalHoldStatusOff
	if held {
		status = types.ObjectLockLegalHoldStatusOn
	}
	_, err = s.client.PutObjectLegalHold(ctx, &s3.PutObjectLegalHoldInput{
		Bucket: &s.o.Bucket, Key: &name, ChecksumAlgorithm: s.checksum(), LegalHold: &types.ObjectLockLegalHold{Status: status},
	})
	if err != nil {
		return s.failed(ctx, op, key, err)
	}
	return nil
}

// LockOf implements Locker. The answer to a HEAD has it, and leaves it out where the
// credentials may not see it: then it is asked for, which needs s3:GetObjectRetention and
// s3:GetObjectLegalHold.
func (s *S3) LockOf(ctx context.Context, key string) (Lock, error) {
	const op = "read the lock of"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return Lock{}, err
	}
	there, err := s.head(ctx, name)
	if err != nil {
		return Lock{}, s.failed(ctx, op, key, err)
	}
	l := Lock{Held: there.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn}
	if there.ObjectLockMode != "" {
		l.Mode, l.Until = LockMode(strings.ToLower(string(there.ObjectLockMode))), aws.ToTime(there.ObjectLockRetainUntilDate).UTC()
	} else {
		asked, err := s.retention(ctx, name)
		if err != nil {
			return Lock{}, s.failed(ctx, op, key, err)
		}
		l.Mode, l.Until = asked.Mode, asked.Until
	}
	if there.ObjectLockLegalHoldStatus == "" {
		out, err := s.client.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{Bucket: &s.o.Bucket, Key: &name})
		switch {
		case hasCode(err, noLockCodes...):
		case err != nil:
			return Lock{}, s.failed(ctx, op, key, err)
		default:
			l.Held = out.LegalHold != nil && out.LegalHold.Status == types.ObjectLockLegalHoldStatusOn
		}
	}
	return l, nil
}

// retention asks until when an object is locked, beside a legal hold.
func (s *S3) retention(ctx context.Context, name string) (Lock, error) {
	out, err := s.client.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &s.o.Bucket, Key: &name})
	switch {
	case hasCode(err, noLockCodes...):
		return Lock{}, nil
	case err != nil:
		return Lock{}, err
	case out.Retention == nil:
		return Lock{}, nil
	}
	return Lock{Mode: LockMode(strings.ToLower(string(out.Retention.Mode))), Until: aws.ToTime(out.Retention.RetainUntilDate).UTC()}, nil
}
