package backup

import (
	"context"

	"github.com/pgmedic/pgmedic/internal/seal"
)

// storeKeys makes the backup's key and stores it wrapped, before anything is
// sealed with it. The key itself is gone when the process ends.
func (r *Run) storeKeys(ctx context.Context) error {
	if r.Seal.Encryption != seal.EncryptionAge {
		return nil
	}
	key, err := seal.NewWrapped(r.Wraps, func(name string, wrapped []byte) error {
		return r.Catalog.AddKey(ctx, r.Manifest, name, wrapped)
	})
	if err != nil {
		return err
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
