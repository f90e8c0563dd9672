package physical_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/scratch"
)

// TestUnrestorable: what a restore would refuse is refused when the backup is taken, and no
// backup is listed; where the server can be asked, before anything is stored.
func TestUnrestorable(t *testing.T) {
	b := newBench(t, scratch.Options{})
	refused := func(words string) {
		t.Helper()
		_, err := physical.Take(t.Context(), b.o)
		if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), words) || pgmedic.HintOf(err) == "" {
			t.Errorf("%v (%s), want %q", err, pgmedic.HintOf(err), words)
		}
		listing, err := b.o.Catalog.List(t.Context(), catalog.Filter{Server: "clinic", Cluster: true})
		if err != nil || len(listing.Entries)+len(listing.Damaged) > 0 {
			t.Errorf("listed are %+v, %v", listing, err)
		}
	}
	if b.server.Major() >= 15 {
		b.run("SET allow_in_place_tablespaces = on", "CREATE TABLESPACE inside LOCATION ''")
		refused("within the data directory")
		for o, err := range b.store.List(t.Context(), "") {
			t.Errorf("stored is %s, %v", o.Key, err)
		}
		b.run("DROP TABLESPACE inside")
	}
	name := filepath.Join(b.server.DataDir(), "base", "two\nlines")
	if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(`base/two\nlines`)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	b.take()
}
