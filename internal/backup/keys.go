package backup

import (
	"context"
	"errors"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/seal"
)

// storeKeys makes the backup's key and stores it wrapped, before anything is
// sealed with it. The key itself goes with the process.
func (r *Run) storeKeys(ctx context.Context) error {
	if r.Seal.Encryption != seal.EncryptionAge {
		return nil
	}
	if len(r.Wraps) == 0 {
		return errors.New("backup: an encrypted backup that nobody can open")
	}
	to := make([]age.Recipient, 0, len(r.Wraps))
	for _, w := range r.Wraps {
		to = append(to, w.To)
	}
	key, err := seal.NewKey(to...)
	if err != nil {
		return err
	}
	for _, w := range r.Wraps {
		wrapped, err := key.Wrap(w.To)
		if err != nil {
			return err
		}
		if err := r.Catalog.AddKey(ctx, r.Manifest, w.Name, wrapped); err != nil {
			return err
		}
	}
	r.Seal.Key = key
	return nil
}

func encryptionName(o seal.Options) string {
	if o.Encryption == "" {
		return string(seal.EncryptionNone)
	}
	return string(o.Encryption)
}
