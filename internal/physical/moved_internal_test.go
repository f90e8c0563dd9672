package physical

import (
	"strings"
	"testing"
)

func TestMoved(t *testing.T) {
	before := []space{{1, 1663, "a"}, {2, 1663, "b"}, {3, 1663, "dropped"}}
	if err := moved(before, []space{{1, 1663, "renamed"}, {2, 1663, "b"}, {4, 7, "made"}}); err != nil {
		t.Errorf("nothing was moved: %v", err)
	}
	if err := moved(before, []space{{1, 7, "a"}, {2, 1663, "b"}}); err == nil || !strings.HasSuffix(err.Error(), `: "a"`) {
		t.Errorf("one was moved: %v", err)
	}
}
