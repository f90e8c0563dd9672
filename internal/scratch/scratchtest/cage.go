package scratchtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// NeedCage skips a test of what a cage keeps out where this machine can't give
// one: without Landlock, say. A user id of its own only root can give.
func NeedCage(t *testing.T) {
	t.Helper()
	walls, err := scratch.TryCage(t.Context(), scratch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	missing := slices.DeleteFunc(walls.Missing, func(w pgmedic.Wall) bool { return w == pgmedic.WallOwnUser })
	if len(missing) > 0 {
		testkit.Elsewhere(t, fmt.Sprintf("this machine lacks walls: %q", missing))
	}
}
