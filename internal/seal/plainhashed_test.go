package seal_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pgmedic/pgmedic/internal/seal"
)

// TestReaderPlainHashed: without the hash of the stored bytes, a stream that is cut off or has
// more than is recorded is still refused, what is encrypted is still authentic, and what else is
// wrong is an error, or gives bytes of which the caller sees by their hash that they are others.
func TestReaderPlainHashed(t *testing.T) {
	plain := rows(800, 1)
	eachMethod(t, func(t *testing.T, o seal.Options) {
		stored, sum := sealed(t, plain, o)
		o.PlainHashed = true
		if got, err := unseal(t, bytes.NewReader(stored), sum, o); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("the stream itself: %v", err)
		}
		for n := range stored {
			_, err := unseal(t, bytes.NewReader(stored[:n]), sum, o)
			wantCorrupt(t, fmt.Sprintf("cut to %d of %d", n, len(stored)), err)
		}
		_, err := unseal(t, bytes.NewReader(append(bytes.Clone(stored), 0)), sum, o)
		wantCorrupt(t, "a byte more", err)
		seen := 0
		for i := range stored {
			bad := bytes.Clone(stored)
			bad[i] ^= 0x10
			got, err := unseal(t, bytes.NewReader(bad), sum, o)
			switch {
			case err != nil:
				wantCorrupt(t, fmt.Sprintf("byte %d", i), err)
			case o.Encryption == seal.EncryptionAge:
				t.Fatalf("byte %d is wrong, and what is encrypted is believed", i)
			case !bytes.Equal(got, plain):
				seen++
			}
		}
		if o.Encryption == "" && o.Compression == seal.CompressionNone && seen == 0 {
			t.Error("no wrong byte came through, so that the hash of the stored bytes was compared all the same")
		}
	})
}
