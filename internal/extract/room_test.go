package extract

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
)

// TestRefuse: what has no room is refused with both numbers, whatever they are, and nothing else is.
func TestRefuse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		bytes, free := rng.Int64N(1<<40), rng.Int64N(1<<40)
		if err := refuse("/scratch", bytes, free); (err != nil) != (bytes > free) {
			t.Fatalf("%d of %d: %v", bytes, free, err)
		}
	}
	if err := refuse("/scratch", 0, 0); err != nil {
		t.Errorf("nothing: %v", err)
	}
	err := refuse("/scratch", 5<<30, 1<<20)
	if pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(err.Error(), "5.0 GiB") && !strings.Contains(err.Error(), "5 GiB") && !strings.Contains(err.Error(), "5.4 GB") || !strings.Contains(pgmedic.HintOf(err), "--skip-disk-check") {
		t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
	}
}

func TestDatabaseFile(t *testing.T) {
	for path, want := range map[string]string{
		"base/5/1259": "5", "base/16384/1259.1": "16384", "pg_tblspc/16390/PG_15_202209061/16384/2": "16384",
		"global/1262": "", "base/5": "", "pg_tblspc/16390": "", "base/pgsql_tmp/5": "", "x/base/5/1": "",
	} {
		got := ""
		if m := databaseFile.FindStringSubmatch(path); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%s is of database %q, want %q", path, got, want)
		}
	}
}

func TestSizeOf(t *testing.T) {
	all := []relation{{Name: "a", Bytes: 3}, {Name: "parted", Partitioned: true}, {Name: "b", Bytes: 4}}
	if got := sizeOf(all); got != 7 {
		t.Errorf("%d bytes", got)
	}
}
