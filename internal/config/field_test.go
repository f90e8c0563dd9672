package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgmedic/pgmedic/internal/config"
)

// TestKeyOf: one setting is found as it stands among all, and nothing else is.
func TestKeyOf(t *testing.T) {
	for _, want := range config.Keys() {
		if got, ok := config.KeyOf(want.Key); !ok || !cmp.Equal(got, want) {
			t.Errorf("%s: %v %s", want.Key, ok, cmp.Diff(want, got))
		}
	}
	for _, key := range []string{"", "database", "database.", "database.none", "none.host", "host", "server.x"} {
		if k, ok := config.KeyOf(key); ok {
			t.Errorf("%q is %+v", key, k)
		}
	}
}
