package physical

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/replication"
)

// TestNewerServerIsRefused: a server of a version that is not known here is not blamed for
// damage, and the reader learns what works.
func TestNewerServerIsRefused(t *testing.T) {
	for _, version := range []int{120000, 150018, 180004} {
		if err := knownVersion(replication.Layout{VersionNum: version}); err != nil {
			t.Errorf("%d: %v", version, err)
		}
	}
	for _, version := range []int{190000, 190001, 200000} {
		err := knownVersion(replication.Layout{VersionNum: version})
		if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "newer than this version of pgmedic knows") || !strings.Contains(pgmedic.HintOf(err), "--method parallel") {
			t.Errorf("%d: %v (%s)", version, err, pgmedic.HintOf(err))
		}
	}
}
